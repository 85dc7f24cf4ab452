#include "engine.h"

#include <cstring>

#include "elf_library.h"
#include "errors.h"
#include "module_internal.h"
#include "sha256.h"

namespace handglass {
namespace {

/* The interface through which TVM looks up the functions of a library. */
class LoadedLibrary final : public ffi::Library {
 public:
  explicit LoadedLibrary(const Mapping& file) : library_(file) {
    CheckContents(file);
    library_.Start();
  }

  void* GetSymbol(const ffi::String& name) final {
    return library_.Symbol(std::string(name.data(), name.size()));
  }

 private:
  /* TVM reads the modules at the symbol `library_bin`, whose first word is their size, and writes a
   * pointer to the symbol `library_ctx`. Neither access may leave its segment. */
  void CheckContents(const Mapping& file) const {
    const std::string modules = ffi::symbol::tvm_ffi_library_bin;
    const std::string context = ffi::symbol::tvm_ffi_library_ctx;
    uint64_t extent = library_.Extent(modules, false), bytes = 0;
    if (extent >= sizeof(bytes)) std::memcpy(&bytes, library_.Symbol(modules), sizeof(bytes));
    bool fits = library_.Symbol(modules) == nullptr ||
                (extent >= sizeof(bytes) && bytes <= extent - sizeof(bytes));
    fits = fits && (library_.Symbol(context) == nullptr ||
                    library_.Extent(context, true) >= sizeof(void*));
    if (fits) return;
    throw MismatchError(file.path().string(), ": cannot be loaded: its modules are damaged");
  }

  ElfLibrary library_;
};

}  // namespace

ffi::Module OpenLibrary(const std::shared_ptr<const Mapping>& file, const std::string& sha256) {
  if (Sha256Hex(file->data(), file->size()) != sha256) {
    throw MismatchError(file->path().string(), ": its sha256 differs from the expected one");
  }
  try {
    return ffi::CreateLibraryModule(ffi::make_object<LoadedLibrary>(*file));
  } catch (const ffi::Error& error) {
    throw MismatchError(file->path().string(), ": cannot be loaded: ", FirstLineOf(error));
  }
}

std::string FirstLineOf(const ffi::Error& error) {
  std::string words = error.message();
  return words.substr(0, words.find('\n'));
}

}  // namespace handglass
