#include "elf_library.h"

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "errors.h"

namespace handglass {
namespace {

#if defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
constexpr uint32_t kRelative = R_AARCH64_RELATIVE, kAbsolute = R_AARCH64_ABS64;
constexpr uint32_t kData = R_AARCH64_GLOB_DAT, kFunction = R_AARCH64_JUMP_SLOT;
#elif defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
constexpr uint32_t kRelative = R_X86_64_RELATIVE, kAbsolute = R_X86_64_64;
constexpr uint32_t kData = R_X86_64_GLOB_DAT, kFunction = R_X86_64_JUMP_SLOT;
#else
#error "no relocations are known for this architecture"
#endif

// Names of the ELF specification that older elf.h files lack.
constexpr int64_t kDtRelr = 36, kDtRelrSize = 35;
constexpr uint64_t kLargest = uint64_t{1} << 32;  // of a library in memory

}  // namespace

/* The entries of the dynamic section that matter here; addresses, not file offsets. */
struct ElfLibrary::Dynamic {
  uint64_t symbols = 0, names = 0, names_size = 0, hash = 0, gnu_hash = 0;
  uint64_t rela = 0, rela_size = 0, plt = 0, plt_size = 0, relr = 0, relr_size = 0;
  uint64_t init = 0, init_array = 0, init_array_size = 0;
};

ElfLibrary::ElfLibrary(std::shared_ptr<const Mapping> file)
    : file_(std::move(file)), page_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))) {
  try {
    Map();
    Link();
  } catch (...) {
    if (base_ != nullptr) munmap(base_, span_);
    throw;
  }
}

ElfLibrary::~ElfLibrary() { munmap(base_, span_); }

void* ElfLibrary::Symbol(const std::string& name) const {
  auto found = symbols_.find(name);
  return found == symbols_.end() ? nullptr : found->second;
}

void ElfLibrary::Refuse(const std::string& why) const {
  throw MismatchError(file_->path().string(), ": cannot be loaded: ", why);
}

/* The bytes at an address of the library, after a look that they are in it. */
template <typename T>
T* ElfLibrary::At(uint64_t address, uint64_t count) const {
  if (address > span_ || count > (span_ - address) / sizeof(T) || address % alignof(T) != 0) {
    Refuse("an address leads out of it");
  }
  return reinterpret_cast<T*>(base_ + address);
}

void ElfLibrary::Map() {
  std::vector<Elf64_Phdr> segments = ReadSegments();
  for (const Elf64_Phdr& segment : segments) Consider(segment);
  if (span_ == 0 || dynamic_size_ == 0) Refuse("nothing in it can be loaded");
  span_ = (span_ + page_ - 1) / page_ * page_;
  void* reserved = mmap(nullptr, span_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) throw DeviceError("no memory for a library of ", span_, " bytes");
  base_ = static_cast<uint8_t*>(reserved);
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_LOAD && segment.p_memsz > 0) MapSegment(segment);
  }
}

std::vector<Elf64_Phdr> ElfLibrary::ReadSegments() const {
  Elf64_Ehdr head;
  if (file_->size() < sizeof(head)) Refuse("too short for a library");
  std::memcpy(&head, file_->data(), sizeof(head));
  if (std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
      head.e_type != ET_DYN || head.e_phentsize != sizeof(Elf64_Phdr)) {
    Refuse("not a 64-bit shared library");
  }
  if (head.e_machine != kMachine) Refuse("made for another architecture");
  std::vector<Elf64_Phdr> segments(head.e_phnum);
  uint64_t bytes = segments.size() * sizeof(Elf64_Phdr);
  if (head.e_phoff > file_->size() || bytes > file_->size() - head.e_phoff) Refuse("cut off");
  if (bytes > 0) std::memcpy(segments.data(), file_->data() + head.e_phoff, bytes);
  return segments;
}

/* Checks a segment and takes notes of what it says. */
void ElfLibrary::Consider(const Elf64_Phdr& segment) {
  const Elf64_Phdr& s = segment;
  if (s.p_vaddr > kLargest || s.p_memsz > kLargest || s.p_filesz > s.p_memsz) Refuse("damaged");
  if (s.p_type == PT_TLS && s.p_memsz > 0) Refuse("it has thread-local variables");
  if (s.p_type == PT_DYNAMIC) dynamic_ = s.p_vaddr, dynamic_size_ = s.p_memsz;
  if (s.p_type == PT_GNU_RELRO) relro_ = s.p_vaddr, relro_size_ = s.p_memsz;
  if (s.p_type != PT_LOAD) return;
  if (s.p_offset > file_->size() || s.p_filesz > file_->size() - s.p_offset) Refuse("cut off");
  if ((s.p_vaddr - s.p_offset) % page_ != 0) {
    Refuse(Words("its segments do not fit the ", page_ / 1024, " KiB pages of this system"));
  }
  span_ = std::max(span_, static_cast<size_t>(s.p_vaddr + s.p_memsz));
}

/* The file's pages, then zeros up to the size in memory. */
void ElfLibrary::MapSegment(const Elf64_Phdr& s) {
  uint64_t start = s.p_vaddr / page_ * page_, skipped = s.p_vaddr - start;
  uint64_t filled = s.p_filesz == 0 ? 0 : (skipped + s.p_filesz + page_ - 1) / page_ * page_;
  uint64_t whole = (skipped + s.p_memsz + page_ - 1) / page_ * page_;
  int protection = (s.p_flags & PF_R ? PROT_READ : 0) | (s.p_flags & PF_W ? PROT_WRITE : 0) |
                   (s.p_flags & PF_X ? PROT_EXEC : 0);
  constexpr int kHere = MAP_PRIVATE | MAP_FIXED;
  uint8_t* place = base_ + start;
  bool done = filled == 0 || mmap(place, filled, protection, kHere, file_->descriptor(),
                                  static_cast<off_t>(s.p_offset - skipped)) != MAP_FAILED;
  if (done && whole > filled) {
    done = mmap(place + filled, whole - filled, protection, kHere | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
  }
  if (!done) throw DeviceError(file_->path().string(), ": cannot be mapped: ", strerror(errno));
  if ((s.p_flags & PF_W) == 0) return;
  writable_.push_back({start, start + whole});
  size_t rest = filled - skipped - s.p_filesz;  // of the last page, where the file goes on
  if (filled > 0 && rest > 0) std::memset(place + skipped + s.p_filesz, 0, rest);
}

void ElfLibrary::Link() {
  Dynamic dynamic = ReadDynamic();
  ReadSymbols(dynamic);
  RelocateRelative(dynamic);
  Relocate(dynamic, dynamic.rela, dynamic.rela_size);
  Relocate(dynamic, dynamic.plt, dynamic.plt_size);
  Protect();
  Start(dynamic);
}

ElfLibrary::Dynamic ElfLibrary::ReadDynamic() const {
  Dynamic found;
  uint64_t count = dynamic_size_ / sizeof(Elf64_Dyn);
  const auto* entries = At<const Elf64_Dyn>(dynamic_, count);
  for (const Elf64_Dyn* e = entries; e != entries + count && e->d_tag != DT_NULL; ++e) {
    switch (e->d_tag) {
      case DT_SYMTAB:
        found.symbols = e->d_un.d_ptr;
        break;
      case DT_STRTAB:
        found.names = e->d_un.d_ptr;
        break;
      case DT_STRSZ:
        found.names_size = e->d_un.d_val;
        break;
      case DT_HASH:
        found.hash = e->d_un.d_ptr;
        break;
      case DT_GNU_HASH:
        found.gnu_hash = e->d_un.d_ptr;
        break;
      case DT_RELA:
        found.rela = e->d_un.d_ptr;
        break;
      case DT_RELASZ:
        found.rela_size = e->d_un.d_val;
        break;
      case DT_JMPREL:
        found.plt = e->d_un.d_ptr;
        break;
      case DT_PLTRELSZ:
        found.plt_size = e->d_un.d_val;
        break;
      case kDtRelr:
        found.relr = e->d_un.d_ptr;
        break;
      case kDtRelrSize:
        found.relr_size = e->d_un.d_val;
        break;
      case DT_INIT:
        found.init = e->d_un.d_ptr;
        break;
      case DT_INIT_ARRAY:
        found.init_array = e->d_un.d_ptr;
        break;
      case DT_INIT_ARRAYSZ:
        found.init_array_size = e->d_un.d_val;
        break;
      default:
        break;  // DT_NEEDED too: what it needs goes by the names of functions
    }
  }
  if (found.names_size == 0 || *At<const char>(found.names + found.names_size - 1) != 0) {
    Refuse("its table of names does not end");
  }
  At<const char>(found.names, found.names_size);
  return found;
}

/* No entry tells how many symbols there are: the hash tables do. */
uint64_t ElfLibrary::CountSymbols(const Dynamic& dynamic) const {
  if (dynamic.hash != 0) return At<const uint32_t>(dynamic.hash, 2)[1];
  if (dynamic.gnu_hash == 0) Refuse("it has no table of symbols");
  const auto* head = At<const uint32_t>(dynamic.gnu_hash, 4);
  uint64_t buckets = head[0], first = head[1], words = head[2];
  uint64_t bucket_table = dynamic.gnu_hash + 16 + words * 8, chains = bucket_table + buckets * 4;
  const auto* bucket = At<const uint32_t>(bucket_table, buckets);
  uint64_t last = 0;
  for (uint64_t i = 0; i < buckets; ++i) last = std::max<uint64_t>(last, bucket[i]);
  if (last < first) return first;
  while ((*At<const uint32_t>(chains + (last - first) * 4) & 1) == 0) ++last;  // 1 ends a chain
  return last + 1;
}

void ElfLibrary::ReadSymbols(const Dynamic& dynamic) {
  uint64_t count = CountSymbols(dynamic);
  const auto* symbols = At<const Elf64_Sym>(dynamic.symbols, count);
  for (uint64_t i = 0; i < count; ++i) {
    const Elf64_Sym& symbol = symbols[i];
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= dynamic.names_size) continue;
    if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) Refuse("it has indirect functions");
    const char* name = At<const char>(dynamic.names + symbol.st_name);
    symbols_.emplace(name, At<uint8_t>(symbol.st_value));
  }
}

/* Its own definition, or else ours; a weak name that nobody has is 0. */
uint64_t ElfLibrary::Resolve(const Dynamic& dynamic, uint32_t number) const {
  const auto* symbol = At<const Elf64_Sym>(dynamic.symbols + number * sizeof(Elf64_Sym));
  if (symbol->st_shndx != SHN_UNDEF)
    return reinterpret_cast<uint64_t>(At<uint8_t>(symbol->st_value));
  if (symbol->st_name >= dynamic.names_size) Refuse("damaged");
  const char* name = At<const char>(dynamic.names + symbol->st_name);
  void* lent = LentSymbol(name);
  if (lent == nullptr && ELF64_ST_BIND(symbol->st_info) != STB_WEAK) {
    Refuse(Words("it needs '", name, "', which this program does not have"));
  }
  return reinterpret_cast<uint64_t>(lent);
}

/* A word that is to be relocated; those of code cannot be. */
uint64_t* ElfLibrary::Place(uint64_t address) const {
  auto holds = [&](const auto& range) {
    return range.first <= address && address + 8 <= range.second;
  };
  if (std::none_of(writable_.begin(), writable_.end(), holds)) {
    Refuse("it relocates what it does not let be written; link it with -fPIC");
  }
  return At<uint64_t>(address);
}

void ElfLibrary::Relocate(const Dynamic& dynamic, uint64_t table, uint64_t bytes) {
  uint64_t count = bytes / sizeof(Elf64_Rela);
  const auto* entries = At<const Elf64_Rela>(table, count);
  for (uint64_t i = 0; i < count; ++i) {
    const Elf64_Rela& entry = entries[i];
    uint64_t* place = Place(entry.r_offset);
    auto addend = static_cast<uint64_t>(entry.r_addend);
    uint32_t number = ELF64_R_SYM(entry.r_info);
    switch (ELF64_R_TYPE(entry.r_info)) {
      case 0:
        break;
      case kRelative:
        *place = reinterpret_cast<uint64_t>(base_) + addend;
        break;
      case kData:
      case kFunction:
      case kAbsolute:
        *place = Resolve(dynamic, number) + addend;
        break;
      default:
        Refuse(Words("relocation ", ELF64_R_TYPE(entry.r_info), " is not known here"));
    }
  }
}

/* DT_RELR: an address, then words whose bits say which of the next 63 places are relative too. */
void ElfLibrary::RelocateRelative(const Dynamic& dynamic) {
  uint64_t count = dynamic.relr_size / sizeof(uint64_t), next = 0;
  const auto* entries = At<const uint64_t>(dynamic.relr, count);
  const auto base = reinterpret_cast<uint64_t>(base_);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t entry = entries[i];
    if ((entry & 1) == 0) {
      *Place(entry) += base;
      next = entry + 8;
      continue;
    }
    for (int bit = 1; bit < 64; ++bit) {
      if ((entry >> bit & 1) != 0) *Place(next + (bit - 1) * 8) += base;
    }
    next += 63 * 8;
  }
}

/* What was only written to be relocated is read-only from now on. */
void ElfLibrary::Protect() {
  uint64_t start = relro_ / page_ * page_, end = (relro_ + relro_size_) / page_ * page_;
  if (relro_size_ == 0 || end <= start) return;
  if (mprotect(At<uint8_t>(start, end - start), end - start, PROT_READ) != 0) {
    Refuse("its tables cannot be protected");
  }
}

void ElfLibrary::Start(const Dynamic& dynamic) const {
  using Function = void (*)(int, char**, char**);
  if (dynamic.init != 0) reinterpret_cast<Function>(At<uint8_t>(dynamic.init))(0, nullptr, nullptr);
  uint64_t count = dynamic.init_array_size / sizeof(Function);
  const auto* functions = At<const Function>(dynamic.init_array, count);
  for (uint64_t i = 0; i < count; ++i) {
    if (functions[i] != nullptr) functions[i](0, nullptr, nullptr);
  }
}

}  // namespace handglass
