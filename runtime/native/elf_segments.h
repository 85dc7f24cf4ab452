// The segments of a shared library in memory: read, copied and checked.
//
// Every access to the library goes through here. An address is valid only if it lies inside one
// PT_LOAD segment that has the right permission; nothing in the file is trusted.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mapping.h"

namespace handglass {

class ElfSegments {
 public:
  /* Copies the segments of a file into private memory, all of them writable. MismatchError if the
   * file is not a shared library of this machine. */
  explicit ElfSegments(const Mapping& file);
  ElfSegments(const ElfSegments&) = delete;
  ElfSegments& operator=(const ElfSegments&) = delete;
  ~ElfSegments();

  /* Gives each segment its permissions, and makes the relocated tables (RELRO) read-only. */
  void Protect();

  /* Whether `bytes` bytes at an address of the library lie in one segment with these flags (PF_R,
   * PF_W, PF_X). */
  bool Holds(uint64_t address, uint64_t bytes, uint32_t flags) const;

  /* Bytes from an address to the end of its segment, 0 if the segment lacks one of these flags.
   * After Protect(), RELRO no longer counts as writable. */
  uint64_t Extent(uint64_t address, uint32_t flags) const;

  /* `count` elements at an address of the library. MismatchError unless they are aligned and lie in
   * one segment with these flags; null for none. */
  template <typename T>
  T* At(uint64_t address, uint64_t count = 1, uint32_t flags = PF_R) const {
    bool fits = count <= kLargest / sizeof(T) && address % alignof(T) == 0 &&
                Holds(address, count * sizeof(T), flags);
    if (count == 0) return nullptr;
    if (!fits) RefuseAddress(address);
    return reinterpret_cast<T*>(base_ + address);
  }

  /* The place in memory of an address that Holds() accepts. */
  uint8_t* Place(uint64_t address) const { return base_ + address; }

  /* Where address 0 of the library is in memory. */
  uint64_t base() const { return reinterpret_cast<uint64_t>(base_); }

  /* Address and bytes of the dynamic section. */
  uint64_t dynamic() const { return dynamic_; }
  uint64_t dynamic_bytes() const { return dynamic_bytes_; }

  /* Throws a MismatchError that names the file. */
  [[noreturn]] void Refuse(const std::string& why) const;

 private:
  static constexpr uint64_t kLargest = uint64_t{1} << 30;  // of a library in memory

  struct Segment {
    uint64_t start, bytes, offset, file_bytes;
    uint32_t flags;
    uint64_t end() const { return start + bytes; }
  };

  [[noreturn]] void RefuseAddress(uint64_t address) const;
  std::vector<Elf64_Phdr> ReadHeaders(const Mapping& file) const;
  void Consider(const Elf64_Phdr& header, const Mapping& file);
  void AddLoad(const Elf64_Phdr& header, const Mapping& file);
  void Copy(const Segment& segment, const Mapping& file);
  void SetProtection(uint64_t start, uint64_t end, uint32_t flags);
  void ProtectRelocated();
  uint64_t Down(uint64_t address) const { return address / page_ * page_; }
  uint64_t Up(uint64_t address) const { return Down(address + page_ - 1); }

  std::string path_;
  uint64_t page_;
  uint8_t* base_ = nullptr;
  size_t span_ = 0;
  std::vector<Segment> segments_;  // ordered by address; no two share a page
  uint64_t dynamic_ = 0, dynamic_bytes_ = 0;
  uint64_t relro_ = 0, relro_bytes_ = 0;
  uint64_t locked_ = 0, locked_end_ = 0;  // pages of RELRO, once they are read-only
};

}  // namespace handglass
