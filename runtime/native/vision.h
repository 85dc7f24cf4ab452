// The tiles that a model accepts. The host cuts pictures into tiles; this program checks them.
#pragma once

#include <cstdint>
#include <string>

#include "fields.h"

namespace handglass {

/* The place of a patch in the grid of its tile. */
struct Place {
  int64_t row = 0, column = 0;
};

struct Vision {
  int64_t image_size = 0;  // side of the largest square tile, in pixels
  int64_t patch_size = 0;
  int64_t query_num = 0, patches_per_row = 0;  // exactly one is 0
  int64_t window_levels = 0;  // patches come in windows of 2^levels x 2^levels, 0: by rows
  int64_t positions = 0;      // of a table: position ids are below it; 0: unknown method
  bool padded = false;        // patches of padding may follow those of a tile
  int64_t places_per_row = 0;  // position ids are this * row + column of the patch; 0: of a table
  int64_t patches = 0;        // of the largest tile
  int64_t longest = 0;        // patches along the longest side of a tile
  std::string unknown;        // the first method of the bundle that this program lacks

  /* Patches along the side of the largest square tile. */
  int64_t side() const { return image_size / patch_size; }
  /* Rows that a tile of this many patches takes in the input of the language model. */
  int64_t Rows(int64_t count) const { return query_num > 0 ? query_num : count / patches_per_row; }
  /* The place of a patch, by its number in a tile that is `width` patches wide. Windows of two
   * levels consist of windows of one level. */
  Place PlaceOf(int64_t number, int64_t width) const;
};

/* The entry `vision` of a manifest, with bounds for all sizes. InputError for one beyond them. */
Vision ReadVision(Fields fields);

}  // namespace handglass
