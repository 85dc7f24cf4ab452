// Every byte of every tensor of a file that is accepted can be read.

#include "safetensors.h"

#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Try([&] {
    Safetensors file(Mapping::Copy("input", Input(data, size)));
    unsigned sum = 0;
    for (const auto& [name, stored] : file.tensors()) {
      ffi::Tensor tensor = file.Tensor(stored);
      const auto* bytes = static_cast<const uint8_t*>(tensor.data_ptr());
      for (size_t i = 0; i < stored.bytes; ++i) sum += bytes[i];
    }
    volatile unsigned used = sum;
    (void)used;
  });
  return 0;
}
