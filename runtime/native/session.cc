#include "session.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "safetensors.h"
#include "threads.h"

namespace handglass {
namespace {

constexpr int kCpu = 1, kCpuId = 0;
// Allocator 1 frees memory after each call; 2 keeps a set of buffers for every prompt length.
constexpr int kUnpooled = 1;
constexpr size_t kMaxTileFile = 128 << 20;  // the largest tile takes half of it

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + ")";
}

std::vector<int64_t> ShapeOf(const ffi::Tensor& tensor) {
  return {tensor.shape().begin(), tensor.shape().end()};
}

bool SameType(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

/* Adds the name of the file or function to an error of compiled code. */
template <typename... Arguments>
ffi::Any Call(const ffi::Function& function, const std::string& where, Arguments&&... arguments) {
  try {
    return function(std::forward<Arguments>(arguments)...);
  } catch (const ffi::Error& error) {
    throw MismatchError(where, ": ", FirstLineOf(error));
  }
}

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
    CheckGrid(static_cast<const int32_t*>(tile.grid.data_ptr()), n);
    CheckPositions(static_cast<const int32_t*>(tile.position_ids.data_ptr()), n);
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
    int64_t most = vision_.side() * vision_.side();
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

  /* The grid must list the patches row by row, and their number must fit whole rows of the language
   * model. */
  void CheckGrid(const int32_t* grid, int64_t n) const {
    int64_t height = int64_t{grid[2 * n - 2]} + 1, width = int64_t{grid[2 * n - 1]} + 1;
    int64_t side = vision_.side();
    bool whole = 0 < height && height <= side && 0 < width && width <= side && height * width == n;
    for (int64_t i = 0; whole && i < n; ++i) {
      whole = grid[2 * i] == i / width && grid[2 * i + 1] == i % width;
    }
    if (!whole) {
      throw NoTile("grid must count its ", n, " patches row by row, at most ", side,
                   " along a side");
    }
    if (vision_.query_num == 0 && n % vision_.patches_per_row != 0) {
      throw NoTile("its ", n, " patches are not a multiple of ", vision_.patches_per_row);
    }
  }

  void CheckPositions(const int32_t* ids, int64_t n) const {
    auto [least, most] = std::minmax_element(ids, ids + n);
    if (*least < 0 || *most >= vision_.positions) {
      throw NoTile("position_ids must be from 0 to ", vision_.positions - 1);
    }
  }

  std::string path_;
  Vision vision_;
  Safetensors file_;
};

}  // namespace

Session::Session(const Bundle& bundle, std::optional<int64_t> threads)
    : manifest_(bundle.manifest()), where_(bundle.folder().string()) {
  CheckTarget(manifest_.target, ReadMachine());
  threads_ = ThreadCount(threads);
  StartThreads(threads_);
  ffi::Module library = OpenLibrary(bundle.library(), bundle.library_sha256());
  auto load = library->GetFunction("vm_load_executable");
  if (!load.has_value()) throw MismatchError(where_, ": lib.so is not a compiled model");
  machine_ = Call(*load, where_).cast<ffi::Module>();
  Call(Required("vm_initialization"), where_, kCpu, kCpuId, kUnpooled);
  for (const std::string& name : manifest_.functions) functions_.emplace(name, Required(name));
  LoadParams(bundle);
  for (const StateTensor& entry : manifest_.state) {
    Memory zeros = UntouchedZeros(entry.bytes());
    state_.push_back(TensorOver(std::move(zeros), entry.shape, DataType(entry.dtype)));
  }
  token_ = EmptyTensor({1}, DataType("int32"));
}

/* The parameters in manifest order, each checked against its entry. */
void Session::LoadParams(const Bundle& bundle) {
  std::map<std::string, ffi::Tensor> found;
  std::map<std::string, StoredTensor> stored;
  for (const auto& file : bundle.params_files()) {
    Safetensors tensors(file);
    for (const auto& [name, one] : tensors.tensors()) {
      if (!stored.emplace(name, one).second) {
        throw MismatchError(where_, ": tensor '", name, "' is in more than one file");
      }
      found.emplace(name, tensors.Tensor(one));
    }
  }
  for (const TensorEntry& entry : manifest_.params) {
    auto one = stored.find(entry.name);
    if (one == stored.end()) {
      throw MismatchError(where_, ": parameter '", entry.name, "' is in no params file");
    }
    bool same_type = SameType(DataType(one->second.dtype), DataType(entry.dtype));
    if (!same_type || one->second.shape != entry.shape) {
      throw MismatchError(where_, ": parameter '", entry.name, "' is ", one->second.dtype, " ",
                          ShapeText(one->second.shape), ", the manifest says ", entry.dtype, " ",
                          ShapeText(entry.shape));
    }
    params_.push_back(found.at(entry.name));
  }
  if (found.size() != manifest_.params.size()) {
    throw MismatchError(where_, ": the params files hold ", found.size(), " tensors, the manifest ",
                        manifest_.params.size());
  }
}

ffi::Function Session::Required(const std::string& name) const {
  auto function = (*machine_)->GetFunction(name);
  if (!function.has_value()) {
    throw MismatchError(where_, ": the library has no function '", name, "'");
  }
  return *function;
}

const ffi::Function& Session::Capability(const std::string& name) const {
  auto found = functions_.find(name);
  if (found == functions_.end()) {
    throw MismatchError(where_, ": the bundle lists no function '", name, "'");
  }
  return found->second;
}

std::optional<ffi::Function> Session::Probe(const std::string& name) const {
  auto function = (*machine_)->GetFunction(name);
  if (!function.has_value()) return std::nullopt;
  return *function;
}

ffi::Tensor Session::EncodeImage(const Tile& tile) {
  ffi::Any result = Call(Capability("encode_image"), "encode_image", tile.pixels, tile.position_ids,
                         tile.grid, params_);
  return Result("encode_image", result, {tile.rows, manifest_.hidden_size});
}

ffi::Tensor Session::Embed(const std::vector<int32_t>& ids) {
  CheckIds(ids);
  auto count = static_cast<int64_t>(ids.size());
  ffi::Tensor tensor = EmptyTensor({count}, DataType("int32"));
  std::memcpy(tensor.data_ptr(), ids.data(), ids.size() * sizeof(int32_t));
  ffi::Any result = Call(Capability("embed"), "embed", tensor, params_);
  return Result("embed", result, {count, manifest_.hidden_size});
}

ffi::Tensor Session::Prefill(const ffi::Tensor& rows, int64_t pos) {
  CheckBounds(pos, rows.size(0));
  ffi::Any result =
      Call(Capability("prefill"), "prefill", rows, ffi::Shape({pos}), state_, params_);
  return Result("prefill", result, {manifest_.vocab_size});
}

ffi::Tensor Session::Decode(int32_t token, int64_t pos) {
  CheckBounds(pos, 1);
  CheckIds({token});
  *static_cast<int32_t*>(token_.data_ptr()) = token;
  ffi::Any result =
      Call(Capability("decode"), "decode", token_, ffi::Shape({pos}), state_, params_);
  return Result("decode", result, {manifest_.vocab_size});
}

void Session::FillState() {
  for (size_t i = 0; i < manifest_.state.size(); ++i) {
    const StateTensor& entry = manifest_.state[i];
    if (entry.recurrent) continue;  // every step overwrites it
    auto tensor = state_[static_cast<int64_t>(i)].cast<ffi::Tensor>();
    std::memset(tensor.data_ptr(), 0x21, entry.bytes());  // a small number in any dtype
  }
}

ffi::Tensor Session::Result(const char* name, const ffi::Any& result,
                            std::vector<int64_t> shape) const {
  auto tensor = result.cast<ffi::Tensor>();
  if (ShapeOf(tensor) != shape || !SameType(tensor.dtype(), DataType("float32"))) {
    throw MismatchError(where_, ": ", name, " returned ", ShapeText(ShapeOf(tensor)),
                        ", the manifest says float32 ", ShapeText(shape));
  }
  return tensor;
}

void Session::CheckBounds(int64_t pos, int64_t count) const {
  if (pos < 0 || count < 1 || pos > manifest_.context - count) {
    throw InputError(count, " tokens at position ", pos, " do not fit the context of ",
                     manifest_.context);
  }
}

void Session::CheckIds(const std::vector<int32_t>& ids) const {
  for (int32_t id : ids) {
    if (id < 0 || id >= manifest_.vocab_size) {
      throw InputError("token id ", id, " is outside the vocabulary of ", manifest_.vocab_size);
    }
  }
}

Tile ReadTile(const std::filesystem::path& path, const Vision& vision) {
  return TileFile(path, vision).Read();
}

}  // namespace handglass
