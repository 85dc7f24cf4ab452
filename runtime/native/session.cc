#include "session.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "safetensors.h"

namespace handglass {
namespace {

constexpr int kCpu = 1, kCpuId = 0;
// Allocator 1 gives memory back after each call; 2 keeps a set of buffers per length of a prompt.
constexpr int kUnpooled = 1;

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

/* A compiled function's refusal names what it was given. */
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
  if (!load.has_value()) throw MismatchError(where_, ": lib.so is no model");
  machine_ = Call(*load, where_).cast<ffi::Module>();
  Call(Required("vm_initialization"), where_, kCpu, kCpuId, kUnpooled);
  encode_image_ = Required("encode_image");
  embed_ = Required("embed");
  prefill_ = Required("prefill");
  decode_ = Required("decode");
  LoadParams(bundle);
  for (const TensorEntry& entry : manifest_.cache) {
    Memory zeros = UntouchedZeros(entry.bytes());
    cache_.push_back(TensorOver(std::move(zeros), entry.shape, DataType(entry.dtype)));
  }
  token_ = EmptyTensor({1}, DataType("int32"));
}

/* In the manifest's order, each what the manifest says of it. */
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

std::optional<ffi::Function> Session::Probe(const std::string& name) const {
  auto function = (*machine_)->GetFunction(name);
  if (!function.has_value()) return std::nullopt;
  return *function;
}

ffi::Tensor Session::EncodeImage(const Picture& picture) {
  ffi::Any result = Call(*encode_image_, "encode_image", picture.pixels, picture.position_ids,
                         picture.grid, params_);
  return Result("encode_image", result, {manifest_.query_num, manifest_.hidden_size});
}

ffi::Tensor Session::Embed(const std::vector<int32_t>& ids) {
  CheckIds(ids);
  auto count = static_cast<int64_t>(ids.size());
  ffi::Tensor tensor = EmptyTensor({count}, DataType("int32"));
  std::memcpy(tensor.data_ptr(), ids.data(), ids.size() * sizeof(int32_t));
  return Result("embed", Call(*embed_, "embed", tensor, params_), {count, manifest_.hidden_size});
}

ffi::Tensor Session::Prefill(const ffi::Tensor& rows, int64_t pos) {
  CheckBounds(pos, rows.size(0));
  ffi::Any result = Call(*prefill_, "prefill", rows, ffi::Shape({pos}), cache_, params_);
  return Result("prefill", result, {manifest_.vocab_size});
}

ffi::Tensor Session::Decode(int32_t token, int64_t pos) {
  CheckBounds(pos, 1);
  CheckIds({token});
  *static_cast<int32_t*>(token_.data_ptr()) = token;
  ffi::Any result = Call(*decode_, "decode", token_, ffi::Shape({pos}), cache_, params_);
  return Result("decode", result, {manifest_.vocab_size});
}

void Session::FillCache() {
  for (const ffi::Any& any : cache_) {
    auto tensor = any.cast<ffi::Tensor>();
    size_t bytes = static_cast<size_t>(tensor.numel()) * tensor.dtype().bits / 8;
    std::memset(tensor.data_ptr(), 0x21, bytes);  // a small number in every type that there is
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

Picture ReadPicture(const std::filesystem::path& path, const Manifest& manifest) {
  Safetensors file(Mapping::Open(path));
  auto read = [&](const char* name, const char* dtype, const std::vector<int64_t>& shape) {
    auto found = file.tensors().find(name);
    if (found == file.tensors().end() || found->second.dtype != dtype ||
        found->second.shape != shape) {
      throw InputError(path.string(), ": is no picture for this bundle: it must have ", name, " ",
                       ShapeText(shape), " ", dtype,
                       "; write it with handglass.runtime.answer.native_request");
    }
    return file.Tensor(found->second);
  };
  int64_t p = manifest.patch_size, side = manifest.image_size / p, n = side * side;
  return {read("pixels", "float32", {3, p, p * n}), read("position_ids", "int32", {n}),
          read("grid", "int32", {n, 2})};
}

}  // namespace handglass
