// int8.tflite: what tflite::GetModel reads.
#ifndef MODEL_DATA_H
#define MODEL_DATA_H

extern const unsigned char model_data[];

#endif
