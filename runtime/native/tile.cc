#include "tile.h"

#include <algorithm>

#include "errors.h"
#include "mapping.h"
#include "safetensors.h"

namespace handglass {
namespace {

constexpr size_t kMaxTileFile = 128 << 20;  // the largest tile takes three quarters of it

/* The file of one tile. Compiled code indexes tables with its values without checking them, so it
 * is read into private memory first. */
class TileFile {
 public:
  TileFile(const std::filesystem::path& path, const Vision& vision)
      : path_(path.string()), vision_(vision), file_(Mapping::Read(path, kMaxTileFile)) {}

  Tile Read() const {
    if (!vision_.unknown.empty()) {
      throw MismatchError(path_, ": how the bundle prepares pictures (", vision_.unknown,
                          ") is unknown here; use 'handglass run', or the program of the release "
                          "that made the bundle");
    }
    int64_t p = vision_.patch_size, n = Patches();
    Tile tile = {Tensor("pixels", "float32", {3, p, p * n}), Tensor("position_ids", "int32", {n}),
                 Tensor("grid", "int32", {n, 2}), vision_.Rows(n)};
    const int32_t* grid = static_cast<const int32_t*>(tile.grid.data_ptr());
    CheckGrid(grid, OwnPatches(grid, n));
    CheckPositions(static_cast<const int32_t*>(tile.position_ids.data_ptr()), grid, n);
    return tile;
  }

 private:
  template <typename... Parts>
  Error NoTile(const Parts&... parts) const {
    return InputError(path_, ": not a tile for this bundle: ", parts...,
                      "; write it with handglass.runtime.answer.native_request");
  }

  /* The number of patches, which is that of the position ids. */
  int64_t Patches() const {
    auto found = file_.tensors().find("position_ids");
    int64_t most = vision_.patches;
    if (found == file_.tensors().end() || found->second.shape.size() != 1 ||
        found->second.shape[0] < 1 || found->second.shape[0] > most) {
      throw NoTile("it must have position_ids (n,) int32 of 1 to ", most, " patches");
    }
    return found->second.shape[0];
  }

  ffi::Tensor Tensor(const char* name, const char* dtype, const std::vector<int64_t>& shape) const {
    auto found = file_.tensors().find(name);
    if (found == file_.tensors().end() || found->second.dtype != dtype ||
        found->second.shape != shape) {
      throw NoTile("it must have ", name, " ", ShapeText(shape), " ", dtype);
    }
    return file_.Tensor(found->second);
  }

  /* How many patches come before the padding, which has the place (-1, -1). */
  int64_t OwnPatches(const int32_t* grid, int64_t n) const {
    int64_t own = n;
    while (vision_.padded && own > 1 && grid[2 * own - 2] == -1 && grid[2 * own - 1] == -1) --own;
    return own;
  }

  /* The patches must be in the order of the model, in whole windows, and their number must fit
   * whole rows of the language model. */
  void CheckGrid(const int32_t* grid, int64_t n) const {
    int64_t height = int64_t{grid[2 * n - 2]} + 1, width = int64_t{grid[2 * n - 1]} + 1;
    int64_t most = vision_.longest, inside = (int64_t{1} << vision_.window_levels) - 1;
    bool whole = 0 < height && height <= most && 0 < width && width <= most &&
                 height * width == n && ((height | width) & inside) == 0;
    for (int64_t i = 0; whole && i < n; ++i) {
      Place place = vision_.PlaceOf(i, width);
      whole = grid[2 * i] == place.row && grid[2 * i + 1] == place.column;
    }
    if (!whole) {
      throw NoTile("grid must count its ", n, " patches ", Order(), ", at most ", most,
                   " along a side");
    }
    if (vision_.query_num == 0 && n % vision_.patches_per_row != 0) {
      throw NoTile("its ", n, " patches are not a multiple of ", vision_.patches_per_row);
    }
  }

  std::string Order() const {
    if (vision_.window_levels == 0) return "row by row";
    return Words("in windows of ", 1 << vision_.window_levels, " x ", 1 << vision_.window_levels);
  }

  /* Positions of a table are looked up there; places tell the size of the tile. */
  void CheckPositions(const int32_t* ids, const int32_t* grid, int64_t n) const {
    if (vision_.places_per_row > 0) return CheckPlaces(ids, grid, n);
    auto [least, most] = std::minmax_element(ids, ids + n);
    if (*least < 0 || *most >= vision_.positions) {
      throw NoTile("position_ids must be from 0 to ", vision_.positions - 1);
    }
  }

  void CheckPlaces(const int32_t* ids, const int32_t* grid, int64_t n) const {
    int64_t side = vision_.places_per_row;
    bool exact = true;
    for (int64_t i = 0; exact && i < n; ++i) {
      exact = grid[2 * i + 1] < side && ids[i] == grid[2 * i] * side + grid[2 * i + 1];
    }
    if (!exact) throw NoTile("position_ids must be ", side, " * row + column of each patch");
  }

  std::string path_;
  Vision vision_;
  Safetensors file_;
};

}  // namespace

Tile ReadTile(const std::filesystem::path& path, const Vision& vision) {
  return TileFile(path, vision).Read();
}

}  // namespace handglass
