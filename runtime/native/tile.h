// One tile of a picture, from a file that the host wrote.
#pragma once

#include <filesystem>

#include "tensors.h"
#include "vision.h"

namespace handglass {

/* The inputs of `encode_image` for one tile of a picture: n patches of p x p pixels. */
struct Tile {
  ffi::Tensor pixels;        // (3, p, p n) float32
  ffi::Tensor position_ids;  // (n,) int32
  ffi::Tensor grid;          // (n, 2) int32: row, column
  int64_t rows = 0;          // that it takes in the input of the language model
};

/* Reads a tile written by runtime/answer/native_request.py and checks it against the manifest. */
Tile ReadTile(const std::filesystem::path& path, const Vision& vision);

}  // namespace handglass
