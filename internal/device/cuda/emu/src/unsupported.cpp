// The functions of the driver that programs are linked with and the emulation has not: they say so. symbols.h is the list that the device
// is linked with; what is defined elsewhere takes the place of what is here.
#include "here.h"

#define X(name) \
	extern "C" EMU_API __attribute__((weak)) int name() { return 801; /* CUDA_ERROR_NOT_SUPPORTED */ }
#include "../../symbols.h"
