#include "golden_data.h"

$pictures

$logits
