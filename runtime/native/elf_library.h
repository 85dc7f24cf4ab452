// Loads a compiled library into this static program: a loader for what code generation makes.
//
// A static program has no dlopen. What a kernel library needs of one is little: segments mapped,
// a few kinds of relocations, and a few dozen functions of ours and of the C library, whose names
// are a table here (elf_symbols.cc). Which C library it was linked for does not matter then: those
// for glibc and for Android load alike. Everything else (other libraries, thread-local storage,
// indirect functions) is refused with its name. A loaded library is code: check its hash before.
#pragma once

#include <elf.h>

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mapping.h"

namespace handglass {

/* The address of a function that this program lends to libraries, null where it has none. */
void* LentSymbol(std::string_view name);

class ElfLibrary {
 public:
  /* MismatchError for what is no library of this machine, or needs what we lack. */
  explicit ElfLibrary(std::shared_ptr<const Mapping> file);
  ElfLibrary(const ElfLibrary&) = delete;
  ElfLibrary& operator=(const ElfLibrary&) = delete;
  ~ElfLibrary();

  /* The address of an exported name, null where there is none. */
  void* Symbol(const std::string& name) const;

 private:
  struct Dynamic;

  template <typename T>
  T* At(uint64_t address, uint64_t count = 1) const;
  [[noreturn]] void Refuse(const std::string& why) const;
  void Map();
  std::vector<Elf64_Phdr> ReadSegments() const;
  void Consider(const Elf64_Phdr& segment);
  void MapSegment(const Elf64_Phdr& segment);
  void Link();
  Dynamic ReadDynamic() const;
  uint64_t CountSymbols(const Dynamic& dynamic) const;
  void ReadSymbols(const Dynamic& dynamic);
  uint64_t* Place(uint64_t address) const;
  void Relocate(const Dynamic& dynamic, uint64_t table, uint64_t bytes);
  void RelocateRelative(const Dynamic& dynamic);
  uint64_t Resolve(const Dynamic& dynamic, uint32_t number) const;
  void Protect();
  void Start(const Dynamic& dynamic) const;

  std::shared_ptr<const Mapping> file_;
  uint8_t* base_ = nullptr;  // where address 0 of the library lies
  size_t span_ = 0;
  uint64_t page_;
  std::vector<std::pair<uint64_t, uint64_t>> writable_;
  uint64_t dynamic_ = 0, dynamic_size_ = 0;
  uint64_t relro_ = 0, relro_size_ = 0;
  std::unordered_map<std::string, void*> symbols_;
};

}  // namespace handglass
