// TVM's runtime in this program: loads libraries with our own ELF loader.
#pragma once

#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <memory>
#include <string>

#include "mapping.h"
#include "tensors.h"

namespace handglass {

/* Loads a library whose bytes have this hash, and runs its initialisers. `file` must be private
 * memory, so that it cannot change between hashing and loading. MismatchError for another hash or a
 * library that cannot be loaded. */
ffi::Module OpenLibrary(const std::shared_ptr<const Mapping>& file, const std::string& sha256);

/* The first line of the message of a TVM error, without the backtrace. */
std::string FirstLineOf(const ffi::Error& error);

}  // namespace handglass
