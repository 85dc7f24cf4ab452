#include "elf_library.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "errors.h"

namespace handglass {
namespace {

#if defined(__aarch64__)
constexpr uint32_t kRelative = R_AARCH64_RELATIVE, kAbsolute = R_AARCH64_ABS64;
constexpr uint32_t kData = R_AARCH64_GLOB_DAT, kFunction = R_AARCH64_JUMP_SLOT;
#elif defined(__x86_64__)
constexpr uint32_t kRelative = R_X86_64_RELATIVE, kAbsolute = R_X86_64_64;
constexpr uint32_t kData = R_X86_64_GLOB_DAT, kFunction = R_X86_64_JUMP_SLOT;
#else
#error "the relocations of this architecture are unknown"
#endif

// Names of the ELF specification that older elf.h files lack.
constexpr int64_t kDtRelr = 36, kDtRelrSize = 35;
constexpr uint64_t kMaxDynamic = 1 << 12;  // entries

}  // namespace

/* The entries of the dynamic section that are used here: addresses of the library and bytes. */
struct ElfLibrary::Dynamic {
  uint64_t symbols = 0, names = 0, names_size = 0, hash = 0, gnu_hash = 0, symbol_count = 0;
  uint64_t rela = 0, rela_size = 0, plt = 0, plt_size = 0, relr = 0, relr_size = 0;
  uint64_t init = 0, init_array = 0, init_array_size = 0;

  /* The field of a tag, null for ignored ones such as DT_NEEDED (functions are found by name). */
  uint64_t* Field(int64_t tag) {
    switch (tag) {
      case DT_SYMTAB:
        return &symbols;
      case DT_STRTAB:
        return &names;
      case DT_STRSZ:
        return &names_size;
      case DT_HASH:
        return &hash;
      case DT_GNU_HASH:
        return &gnu_hash;
      case DT_RELA:
        return &rela;
      case DT_RELASZ:
        return &rela_size;
      case DT_JMPREL:
        return &plt;
      case DT_PLTRELSZ:
        return &plt_size;
      case kDtRelr:
        return &relr;
      case kDtRelrSize:
        return &relr_size;
      case DT_INIT:
        return &init;
      case DT_INIT_ARRAY:
        return &init_array;
      case DT_INIT_ARRAYSZ:
        return &init_array_size;
      default:
        return nullptr;
    }
  }
};

ElfLibrary::ElfLibrary(const Mapping& file) : segments_(file) {
  Dynamic dynamic = ReadDynamic();
  ReadSymbols(dynamic);
  RelocateRelative(dynamic);
  Relocate(dynamic, dynamic.rela, dynamic.rela_size);
  Relocate(dynamic, dynamic.plt, dynamic.plt_size);
  ReadInitialisers(dynamic);
  segments_.Protect();
}

void* ElfLibrary::Symbol(const std::string& name) const {
  auto found = symbols_.find(name);
  return found == symbols_.end() ? nullptr : segments_.Place(found->second);
}

uint64_t ElfLibrary::Extent(const std::string& name, bool writable) const {
  auto found = symbols_.find(name);
  if (found == symbols_.end()) return 0;
  return segments_.Extent(found->second, writable ? PF_R | PF_W : PF_R);
}

ElfLibrary::Dynamic ElfLibrary::ReadDynamic() const {
  Dynamic found;
  uint64_t count = segments_.dynamic_bytes() / sizeof(Elf64_Dyn);
  if (count > kMaxDynamic) segments_.Refuse(Words("its dynamic section has ", count, " entries"));
  const auto* entries = segments_.At<const Elf64_Dyn>(segments_.dynamic(), count);
  for (const Elf64_Dyn* e = entries; e != entries + count && e->d_tag != DT_NULL; ++e) {
    if (e->d_tag == DT_REL) segments_.Refuse("it has relocations without addends (DT_REL)");
    if (uint64_t* field = found.Field(e->d_tag)) *field = e->d_un.d_val;
  }
  segments_.At<const char>(found.names, found.names_size);
  found.symbol_count = CountSymbols(found);
  segments_.At<const Elf64_Sym>(found.symbols, found.symbol_count);
  return found;
}

/* The dynamic section has no entry for the number of symbols; the hash tables imply it. */
uint64_t ElfLibrary::CountSymbols(const Dynamic& dynamic) const {
  if (dynamic.hash != 0) return segments_.At<const uint32_t>(dynamic.hash, 2)[1];
  if (dynamic.gnu_hash == 0) segments_.Refuse("it has no symbol table");
  return CountHashed(dynamic.gnu_hash);
}

uint64_t ElfLibrary::CountHashed(uint64_t table) const {
  const auto* head = segments_.At<const uint32_t>(table, 4);
  uint64_t buckets = head[0], first = head[1], words = head[2];
  uint64_t bucket_table = table + 16 + words * 8, chains = bucket_table + buckets * 4;
  const auto* bucket = segments_.At<const uint32_t>(bucket_table, buckets);
  uint64_t last = 0;
  for (uint64_t i = 0; i < buckets; ++i) last = std::max<uint64_t>(last, bucket[i]);
  if (last < first) return first;
  auto ends_chain = [&](uint64_t symbol) {
    return (*segments_.At<const uint32_t>(chains + (symbol - first) * 4) & 1) != 0;
  };
  while (!ends_chain(last)) ++last;
  return last + 1;
}

/* A name of the string table. Bounded, because a relocation may overwrite its terminator. */
std::string_view ElfLibrary::Name(const Dynamic& dynamic, uint64_t offset) const {
  if (offset >= dynamic.names_size) {
    segments_.Refuse(Words("a name at ", offset, " is out of bounds"));
  }
  uint64_t most = dynamic.names_size - offset;
  const char* name = segments_.At<const char>(dynamic.names + offset, most);
  return {name, strnlen(name, most)};
}

/* Exported functions must lie in code, other symbols anywhere in the library. Symbols outside it,
 * such as the marker _end, are skipped. */
void ElfLibrary::ReadSymbols(const Dynamic& dynamic) {
  const auto* symbols = segments_.At<const Elf64_Sym>(dynamic.symbols, dynamic.symbol_count);
  for (uint64_t i = 0; i < dynamic.symbol_count; ++i) {
    const Elf64_Sym& symbol = symbols[i];
    if (symbol.st_shndx == SHN_UNDEF) continue;
    unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (type == STT_GNU_IFUNC) segments_.Refuse("it has indirect functions");
    if (!segments_.Holds(symbol.st_value, 1, type == STT_FUNC ? PF_X : 0)) continue;
    symbols_.emplace(Name(dynamic, symbol.st_name), symbol.st_value);
  }
}

/* The library's own definition, otherwise ours; 0 for a weak symbol without a definition. */
uint64_t ElfLibrary::Resolve(const Dynamic& dynamic, uint32_t number) const {
  if (number >= dynamic.symbol_count) {
    segments_.Refuse(Words("symbol ", number, " of ", dynamic.symbol_count));
  }
  const auto* symbol = segments_.At<const Elf64_Sym>(dynamic.symbols + number * sizeof(Elf64_Sym));
  if (symbol->st_shndx != SHN_UNDEF) {
    return reinterpret_cast<uint64_t>(segments_.At<uint8_t>(symbol->st_value, 1, 0));
  }
  std::string_view name = Name(dynamic, symbol->st_name);
  void* lent = LentSymbol(name);
  if (lent == nullptr && ELF64_ST_BIND(symbol->st_info) != STB_WEAK) {
    segments_.Refuse(Words("it needs '", name, "', which this program does not have"));
  }
  return reinterpret_cast<uint64_t>(lent);
}

/* The word that a relocation changes; it must be writable data. */
uint64_t* ElfLibrary::Place(uint64_t address) const {
  if (!segments_.Holds(address, sizeof(uint64_t), PF_W)) {
    segments_.Refuse("a relocation is outside its writable segments; link it with -fPIC");
  }
  return segments_.At<uint64_t>(address, 1, PF_W);
}

void ElfLibrary::Relocate(const Dynamic& dynamic, uint64_t table, uint64_t bytes) const {
  uint64_t count = bytes / sizeof(Elf64_Rela);
  const auto* entries = segments_.At<const Elf64_Rela>(table, count);
  for (uint64_t i = 0; i < count; ++i) {
    const Elf64_Rela entry = entries[i];
    auto addend = static_cast<uint64_t>(entry.r_addend);
    uint32_t number = ELF64_R_SYM(entry.r_info);
    switch (ELF64_R_TYPE(entry.r_info)) {
      case 0:
        break;
      case kRelative:
        *Place(entry.r_offset) = segments_.base() + addend;
        break;
      case kData:
      case kFunction:
      case kAbsolute:
        *Place(entry.r_offset) = Resolve(dynamic, number) + addend;
        break;
      default:
        segments_.Refuse(
            Words("relocation type ", ELF64_R_TYPE(entry.r_info), " is not supported"));
    }
  }
}

/* DT_RELR: an address, then bitmaps of which of the next 63 words are relative relocations too. */
void ElfLibrary::RelocateRelative(const Dynamic& dynamic) const {
  uint64_t count = dynamic.relr_size / sizeof(uint64_t), next = 0;
  const auto* entries = segments_.At<const uint64_t>(dynamic.relr, count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t entry = entries[i];
    if ((entry & 1) == 0) {
      *Place(entry) += segments_.base();
      next = entry + 8;
      continue;
    }
    for (uint64_t bit = 1; bit < 64; ++bit) {
      if ((entry >> bit & 1) != 0) *Place(next + (bit - 1) * 8) += segments_.base();
    }
    next += 63 * 8;
  }
}

/* Reads the addresses of the initialisers after relocation; each must lie in code. */
void ElfLibrary::ReadInitialisers(const Dynamic& dynamic) {
  if (dynamic.init != 0) initialisers_.push_back(dynamic.init);
  uint64_t count = dynamic.init_array_size / sizeof(uint64_t);
  const auto* functions = segments_.At<const uint64_t>(dynamic.init_array, count);
  for (uint64_t i = 0; i < count; ++i) {
    if (functions[i] != 0) initialisers_.push_back(functions[i] - segments_.base());
  }
  for (uint64_t address : initialisers_) segments_.At<uint8_t>(address, 1, PF_X);
}

void ElfLibrary::Start() const {
  using Function = void (*)(int, char**, char**);
  for (uint64_t address : initialisers_) {
    reinterpret_cast<Function>(segments_.Place(address))(0, nullptr, nullptr);
  }
}

}  // namespace handglass
