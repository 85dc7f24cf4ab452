// A loader for compiled libraries: a static program has no dlopen.
//
// A kernel library needs only segments, a few kinds of relocations, and a few dozen functions of
// this program and the C library, which elf_symbols.cc lists. Libraries linked for glibc and for
// Android load alike, because their C library is not loaded. Anything else (other libraries,
// thread-local variables, indirect functions) is rejected with an error that names it.
//
// Loading checks every table and executes nothing, so a damaged file cannot crash it. That does not
// make the code safe to run: check the hash of the library first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "elf_segments.h"
#include "mapping.h"

namespace handglass {

/* The address of a function that libraries may call, null if this program does not have it. */
void* LentSymbol(std::string_view name);

class ElfLibrary {
 public:
  /* Loads and relocates a library. MismatchError for a file that is not a library of this machine,
   * is damaged, or needs what this program lacks. */
  explicit ElfLibrary(const Mapping& file);

  /* Runs the initialisers of the library. */
  void Start() const;

  /* The address of an exported name, null if there is none. */
  void* Symbol(const std::string& name) const;

  /* The number of bytes from an exported name to the end of its segment; with `writable`, 0 unless
   * they may be written. 0 if there is no such name. */
  uint64_t Extent(const std::string& name, bool writable) const;

 private:
  struct Dynamic;

  Dynamic ReadDynamic() const;
  uint64_t CountSymbols(const Dynamic& dynamic) const;
  uint64_t CountHashed(uint64_t table) const;
  std::string_view Name(const Dynamic& dynamic, uint64_t offset) const;
  void ReadSymbols(const Dynamic& dynamic);
  uint64_t* Place(uint64_t address) const;
  void Relocate(const Dynamic& dynamic, uint64_t table, uint64_t bytes) const;
  void RelocateRelative(const Dynamic& dynamic) const;
  uint64_t Resolve(const Dynamic& dynamic, uint32_t number) const;
  void ReadInitialisers(const Dynamic& dynamic);

  ElfSegments segments_;
  std::unordered_map<std::string, uint64_t> symbols_;  // addresses of the library
  std::vector<uint64_t> initialisers_;                 // addresses of the library
};

}  // namespace handglass
