#include "elf_segments.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"

namespace handglass {
namespace {

#if defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#elif defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#else
#error "the machine number of this architecture is unknown"
#endif

constexpr size_t kMaxSegments = 256;

}  // namespace

ElfSegments::ElfSegments(const Mapping& file)
    : path_(file.path().string()), page_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {
  for (const Elf64_Phdr& header : ReadHeaders(file)) Consider(header, file);
  if (segments_.empty() || dynamic_bytes_ == 0) Refuse("it has no segments to load");
  span_ = Up(segments_.back().end());
  void* reserved = mmap(nullptr, span_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) {
    throw DeviceError("not enough memory for a library of ", span_, " bytes");
  }
  base_ = static_cast<uint8_t*>(reserved);
  try {
    for (const Segment& segment : segments_) Copy(segment, file);
  } catch (...) {
    munmap(base_, span_);
    throw;
  }
}

ElfSegments::~ElfSegments() { munmap(base_, span_); }

void ElfSegments::Refuse(const std::string& why) const {
  throw MismatchError(path_, ": cannot be loaded: ", why);
}

void ElfSegments::RefuseAddress(uint64_t address) const {
  Refuse(Words("address 0x", std::hex, address, " is outside its segments or misaligned"));
}

bool ElfSegments::Holds(uint64_t address, uint64_t bytes, uint32_t flags) const {
  uint64_t extent = Extent(address, flags);
  return extent > 0 && bytes <= extent;
}

uint64_t ElfSegments::Extent(uint64_t address, uint32_t flags) const {
  for (const Segment& segment : segments_) {
    bool inside = segment.start <= address && address < segment.end();
    if (!inside || (segment.flags & flags) != flags) continue;
    bool cut = (flags & PF_W) != 0 && address < locked_end_ && locked_ < segment.end();
    if (!cut) return segment.end() - address;
    return address < locked_ ? locked_ - address : 0;
  }
  return 0;
}

std::vector<Elf64_Phdr> ElfSegments::ReadHeaders(const Mapping& file) const {
  Elf64_Ehdr head;
  if (file.size() < sizeof(head)) Refuse("too short for a library");
  std::memcpy(&head, file.data(), sizeof(head));
  if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
      head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_type != ET_DYN ||
      head.e_phentsize != sizeof(Elf64_Phdr)) {
    Refuse("not a 64-bit shared library");
  }
  if (head.e_machine != kMachine) Refuse("made for another architecture");
  if (head.e_phnum > kMaxSegments) Refuse(Words("it has ", head.e_phnum, " segments"));
  std::vector<Elf64_Phdr> headers(head.e_phnum);
  uint64_t bytes = headers.size() * sizeof(Elf64_Phdr);
  if (head.e_phoff > file.size() || bytes > file.size() - head.e_phoff) Refuse("cut off");
  if (bytes > 0) std::memcpy(headers.data(), file.data() + head.e_phoff, bytes);
  return headers;
}

/* Checks and records a program header. */
void ElfSegments::Consider(const Elf64_Phdr& header, const Mapping& file) {
  if (header.p_type == PT_TLS && header.p_memsz > 0) Refuse("it has thread-local variables");
  if (header.p_type == PT_DYNAMIC) dynamic_ = header.p_vaddr, dynamic_bytes_ = header.p_memsz;
  if (header.p_type == PT_GNU_RELRO) relro_ = header.p_vaddr, relro_bytes_ = header.p_memsz;
  if (header.p_type == PT_LOAD && header.p_memsz > 0) AddLoad(header, file);
}

void ElfSegments::AddLoad(const Elf64_Phdr& header, const Mapping& file) {
  const Elf64_Phdr& h = header;
  if (h.p_vaddr > kLargest || h.p_memsz > kLargest || h.p_filesz > h.p_memsz) {
    Refuse(Words("a segment of ", h.p_memsz, " bytes at ", h.p_vaddr, " is out of bounds"));
  }
  if (h.p_offset > file.size() || h.p_filesz > file.size() - h.p_offset) Refuse("cut off");
  if ((h.p_flags & PF_W) != 0 && (h.p_flags & PF_X) != 0) {
    Refuse("a segment is both writable and executable");
  }
  if (!segments_.empty() && Down(h.p_vaddr) < Up(segments_.back().end())) {
    Refuse(Words("its segments do not fit the ", page_ / 1024, " KiB pages of this system"));
  }
  segments_.push_back({h.p_vaddr, h.p_memsz, h.p_offset, h.p_filesz, h.p_flags});
}

/* Anonymous memory is zero, so only the bytes of the file are copied. */
void ElfSegments::Copy(const Segment& segment, const Mapping& file) {
  SetProtection(segment.start, segment.end(), PF_R | PF_W);
  if (segment.file_bytes == 0) return;
  std::memcpy(base_ + segment.start, file.data() + segment.offset, segment.file_bytes);
}

void ElfSegments::SetProtection(uint64_t start, uint64_t end, uint32_t flags) {
  int protection = ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_W) != 0 ? PROT_WRITE : 0) |
                   ((flags & PF_X) != 0 ? PROT_EXEC : 0);
  if (mprotect(base_ + Down(start), Up(end) - Down(start), protection) != 0) {
    throw DeviceError(path_, ": cannot be loaded: ", std::strerror(errno));
  }
}

void ElfSegments::Protect() {
  for (const Segment& segment : segments_) {
    auto* code = reinterpret_cast<char*>(base_ + segment.start);
    if ((segment.flags & PF_X) != 0) __builtin___clear_cache(code, code + segment.bytes);
    SetProtection(segment.start, segment.end(), segment.flags);
  }
  if (relro_bytes_ > 0) ProtectRelocated();
}

/* Protects the whole pages of RELRO; a partial last page stays writable. */
void ElfSegments::ProtectRelocated() {
  for (const Segment& segment : segments_) {
    uint64_t last = Up(segment.end());
    if ((segment.flags & PF_W) == 0 || relro_ < segment.start || relro_ >= last) continue;
    if (relro_bytes_ > last - relro_) break;
    uint64_t start = Down(relro_), end = Down(relro_ + relro_bytes_);
    if (start >= end) return;
    SetProtection(start, end, PF_R);
    locked_ = start, locked_end_ = end;
    return;
  }
  Refuse("its read-only tables (RELRO) are outside its writable segments");
}

}  // namespace handglass
