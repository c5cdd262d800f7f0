// Golden pictures and the logits that the network has for them.
#ifndef GOLDEN_DATA_H
#define GOLDEN_DATA_H

#include <cstdint>

using GoldenLogit = ${logit}_t;

constexpr int kGoldenPictures = $count;
constexpr int kGoldenPictureBytes = $picture_bytes;
constexpr int kGoldenClasses = $classes;

extern const int8_t golden_pictures[];  // [pictures][height][width][channels], each value a pixel 0..255 less 128
extern const GoldenLogit golden_logits[];  // [pictures][classes]

#endif
