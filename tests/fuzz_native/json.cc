// A value that is read is written as text that reads as the same value.

#include "json.h"

#include <cstdlib>

#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Try([&] {
    std::string text = Json::Parse(Input(data, size)).Dump();
    if (Json::Parse(text).Dump() != text) std::abort();
  });
  return 0;
}
