// Loads a library (runtime/native/elf_library.h) and calls a function of it, if one is named:
// loader_driver FILE [FUNCTION]. Prints "loaded" and what FUNCTION(20) returns.
//
// Instructions were written as data, so the instruction cache must be flushed before they run.
// Emulators keep no such cache; the driver therefore records which bytes the loader flushed. Exit
// code 1: they do not include FUNCTION, or were changed afterwards.

#include <cstdio>
#include <string_view>
#include <vector>

namespace handglass {
void Flush(char* start, char* end);
}

#define __builtin___clear_cache Flush
#include "elf_segments.cc"
#undef __builtin___clear_cache

#include "elf_library.h"
#include "errors.h"

namespace handglass {
namespace {

struct Flushed {
  const char* start;
  std::string bytes;
};
std::vector<Flushed> flushed;

bool IsFlushed(const void* address) {
  const auto* byte = static_cast<const char*>(address);
  for (const Flushed& range : flushed) {
    if (byte < range.start || byte >= range.start + range.bytes.size()) continue;
    return std::string_view(range.start, range.bytes.size()) == range.bytes;
  }
  return false;
}

int CallIn(const ElfLibrary& library, const char* name) {
  void* place = library.Symbol(name);
  if (!IsFlushed(place)) {
    std::puts("not flushed");
    return 1;
  }
  std::printf("%d\n", reinterpret_cast<int (*)(int)>(place)(20));
  return 0;
}

}  // namespace

void Flush(char* start, char* end) {
  flushed.push_back({start, std::string(start, end)});
  __builtin___clear_cache(start, end);
}

/* In place of elf_symbols.cc, whose functions need all of TVM. */
void* LentSymbol(std::string_view) { return nullptr; }

}  // namespace handglass

int main(int count, char** arguments) {
  using namespace handglass;
  try {
    auto file = Mapping::Read(arguments[1], 1 << 20);
    ElfLibrary library(*file);
    std::puts("loaded");
    return count > 2 ? CallIn(library, arguments[2]) : 0;
  } catch (const Error& error) {
    std::puts(error.what());
    return error.exit_code;
  }
}
