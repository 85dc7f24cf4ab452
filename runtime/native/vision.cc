#include "vision.h"

#include "errors.h"

namespace handglass {
namespace {

// Bounds of numbers, as in runtime/bundle/bounds.py and runtime/prompt/.
constexpr int64_t kMaxSide = 1 << 11, kMaxRows = 1 << 16, kMaxPatches = 1 << 16;
constexpr int64_t kMaxWindows = 2, kMaxTable = 1 << 12, kMaxSlices = 100;
constexpr int64_t kMaxPixels = 1 << 24;  // of all tiles of a picture
constexpr int64_t kLongest = 10;         // the square root of the largest aspect of a picture

/* How patches get their positions, by the name of the method. */
void ReadPositions(Fields method, Vision& vision) {
  std::string kind = method.Text("kind");
  if (kind != "bucket" && kind != "floor" && kind != "padded" && kind != "place") {
    if (vision.unknown.empty()) vision.unknown = Words("vision.positions ", Shown(kind));
    return;
  }
  int64_t side = method.Inner("parameters").Integer("side", 1, kMaxTable);
  vision.positions = side * side;
  vision.padded = kind == "padded";
  if (kind == "place") vision.places_per_row = side;
}

bool IsGrid(const std::string& kind) {
  return kind == "grid" || kind == "grid_native" || kind == "grid_adaptive";
}

/* Tiles of about resolution x resolution pixels and of any aspect that a picture may have. */
void ReadGrid(Fields grid, Vision& vision) {
  int64_t resolution = grid.Integer("resolution", 1, kMaxSide);
  int64_t multiple = grid.Integer("multiple", 1, resolution);
  int64_t slices = grid.Integer("max_slices", 1, kMaxSlices);
  grid.Done();
  int64_t window = vision.patch_size << vision.window_levels;
  if (multiple % window != 0) {
    throw InputError(grid.where(), ": 'multiple' must be a multiple of ", window,
                     " (patches, in windows), got ", multiple);
  }
  int64_t longest = resolution * kLongest + multiple;
  int64_t pixels = (resolution / kLongest + 1 + multiple) * longest;
  int64_t patch = vision.patch_size * vision.patch_size;
  if (pixels > kMaxPatches * patch || pixels > kMaxPixels / (slices + 1)) {
    throw InputError(grid.where(), ": tiles may have ", pixels, " pixels, more than ", kMaxPatches,
                     " patches, or than ", kMaxPixels, " pixels together");
  }
  vision.patches = pixels / patch;
  vision.longest = longest / vision.patch_size;
}

/* The bounds of a tile, and the first method that this program lacks: such a bundle answers text
 * alone here. */
void ReadMethods(Fields& fields, Vision& vision) {
  Fields slicing = fields.Inner("slicing");
  std::string kind = slicing.Text("kind");
  vision.longest = vision.side();
  vision.patches = vision.side() * vision.side();
  if (IsGrid(kind)) {
    ReadGrid(slicing.Inner("parameters"), vision);
  } else if (kind != "crops") {
    vision.unknown = Words("vision.slicing ", Shown(kind));
  }
  ReadPositions(fields.Inner("positions"), vision);
}

void CheckSizes(const Vision& vision, const std::string& where) {
  if (vision.image_size % (vision.patch_size << vision.window_levels) != 0) {
    throw InputError(where, ": 'image_size' must be a multiple of 'patch_size', in whole windows");
  }
  if (vision.side() > kMaxPatches / vision.side()) {
    throw InputError(where, ": a tile has ", vision.side(), " x ", vision.side(),
                     " patches, at most ", kMaxPatches, " are supported");
  }
  if ((vision.query_num > 0) == (vision.patches_per_row > 0)) {
    throw InputError(where,
                     ": one of 'query_num' and 'patches_per_row' must be positive, the other 0");
  }
}

}  // namespace

Place Vision::PlaceOf(int64_t number, int64_t width) const {
  int64_t window = number >> (2 * window_levels), per_line = width >> window_levels;
  Place place = {window / per_line, window % per_line};
  for (int64_t level = window_levels - 1; level >= 0; --level) {
    // Upper left, upper right, lower left, lower right.
    int64_t quarter = (number >> (2 * level)) & 3;
    place = {2 * place.row + quarter / 2, 2 * place.column + quarter % 2};
  }
  return place;
}

Vision ReadVision(Fields fields) {
  auto optional = [&](const char* name, int64_t most) {
    return fields.Has(name) ? fields.Integer(name, 0, most) : 0;
  };
  Vision vision;
  vision.image_size = fields.Integer("image_size", 1, kMaxSide);
  vision.patch_size = fields.Integer("patch_size", 1, vision.image_size);
  vision.query_num = optional("query_num", kMaxRows);
  vision.patches_per_row = optional("patches_per_row", kMaxRows);
  vision.window_levels = optional("window_levels", kMaxWindows);
  CheckSizes(vision, fields.where());
  ReadMethods(fields, vision);
  return vision;
}

}  // namespace handglass
