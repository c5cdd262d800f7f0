#include "model_data.h"

$model
