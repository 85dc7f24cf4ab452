#include "session.h"

#include <cstring>

#include "errors.h"
#include "safetensors.h"
#include "threads.h"

namespace handglass {
namespace {

constexpr int kCpu = 1, kCpuId = 0;
// Allocator 1 frees memory after each call; 2 keeps a set of buffers for every prompt length.
constexpr int kUnpooled = 1;

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
  for (const auto& [name, entry] : manifest_.functions) functions_.emplace(name, Required(name));
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
  manifest_.functions.at(name).CheckCallable(name);
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

bool Session::takes_positions() const {
  auto found = manifest_.functions.find("prefill");
  return found != manifest_.functions.end() && found->second.takes_positions;
}

ffi::Tensor Session::Prefill(const ffi::Tensor& rows, int64_t pos,
                             const std::vector<int32_t>& positions) {
  CheckBounds(pos, rows.size(0));
  if (!positions.empty() || !takes_positions()) return Step("prefill", rows, pos, positions);
  std::vector<int32_t> plain;
  for (int64_t place = pos; place < pos + rows.size(0); ++place) {
    plain.insert(plain.end(), kAxes, static_cast<int32_t>(place));
  }
  return Step("prefill", rows, pos, plain);
}

ffi::Tensor Session::Decode(int32_t token, int64_t pos, std::optional<int64_t> position) {
  CheckBounds(pos, 1);
  CheckBounds(position.value_or(pos), 1);
  CheckIds({token});
  *static_cast<int32_t*>(token_.data_ptr()) = token;
  std::vector<int32_t> positions;
  if (takes_positions()) positions.assign(kAxes, static_cast<int32_t>(position.value_or(pos)));
  return Step("decode", token_, pos, positions);
}

/* Calls a function that extends the state. */
ffi::Tensor Session::Step(const char* name, const ffi::Tensor& input, int64_t pos,
                          const std::vector<int32_t>& positions) {
  const ffi::Function& function = Capability(name);
  ffi::Any result;
  if (manifest_.functions.at(name).takes_positions) {
    CheckPositions(positions, input.size(0));
    ffi::Tensor placed = EmptyTensor({input.size(0), kAxes}, DataType("int32"));
    std::memcpy(placed.data_ptr(), positions.data(), positions.size() * sizeof(int32_t));
    result = Call(function, name, input, placed, ffi::Shape({pos}), state_, params_);
  } else {
    if (!positions.empty()) throw InputError(where_, ": ", name, " takes no positions");
    result = Call(function, name, input, ffi::Shape({pos}), state_, params_);
  }
  return Result(name, result, {manifest_.vocab_size});
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

/* The positions select rows of a table; compiled code does not check them. */
void Session::CheckPositions(const std::vector<int32_t>& positions, int64_t count) const {
  bool fits = static_cast<int64_t>(positions.size()) == kAxes * count;
  for (int32_t one : positions) fits = fits && 0 <= one && one < manifest_.context;
  if (fits) return;
  throw InputError("the positions of ", count, " tokens must be ", kAxes, " each, from 0 to ",
                   manifest_.context - 1);
}

void Session::CheckIds(const std::vector<int32_t>& ids) const {
  for (int32_t id : ids) {
    if (id < 0 || id >= manifest_.vocab_size) {
      throw InputError("token id ", id, " is outside the vocabulary of ", manifest_.vocab_size);
    }
  }
}

}  // namespace handglass
