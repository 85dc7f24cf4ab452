#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <sstream>

#include "errors.h"
#include "lost_pages.h"

namespace handglass {
namespace {

constexpr size_t kAlignment = 64, kChunk = 1 << 20;

/* An open regular file, closed at the end of its scope. */
class RegularFile {
 public:
  /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
  explicit RegularFile(const std::filesystem::path& path)
      : path_(path.string()),
        descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
    if (descriptor_ < 0) Fail(std::strerror(errno));
    const char* reason = fstat(descriptor_, &found_) != 0 ? std::strerror(errno)
                         : S_ISDIR(found_.st_mode)        ? "it is a folder"
                         : !S_ISREG(found_.st_mode)       ? "not a regular file"
                                                          : nullptr;
    if (reason == nullptr) return;
    close(descriptor_);
    Fail(reason);
  }
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;
  ~RegularFile() { close(descriptor_); }

  int descriptor() const { return descriptor_; }
  unsigned mode() const { return found_.st_mode & 07777; }

  size_t Size(uint64_t limit) const {
    auto size = static_cast<uint64_t>(found_.st_size);
    if (found_.st_size < 0 || size > limit) TooLarge(limit);
    return static_cast<size_t>(size);
  }

  /* The contents. The limit is checked while reading, because the file may grow. */
  std::string Content(size_t limit) const {
    std::string content;
    content.reserve(Size(limit));
    while (true) {
      size_t known = content.size();
      content.resize(known + std::min(kChunk, limit + 1 - known));
      ssize_t got = read(descriptor_, content.data() + known, content.size() - known);
      bool again = got < 0 && errno == EINTR;
      if (got < 0 && !again) Fail(std::strerror(errno));
      content.resize(known + (again ? 0 : static_cast<size_t>(got)));
      if (content.size() > limit) TooLarge(limit);
      if (got == 0) return content;
    }
  }

 private:
  [[noreturn]] void Fail(const char* reason) const {
    throw InputError(path_, ": cannot be read: ", reason);
  }
  [[noreturn]] void TooLarge(uint64_t limit) const {
    throw InputError(path_, ": larger than ", limit, " bytes, the limit for such a file");
  }

  std::string path_;
  int descriptor_;
  struct stat found_ = {};
};

/* A copy in aligned memory, as tensors require. */
uint8_t* CopyOf(std::string_view text) {
  void* data = nullptr;
  if (posix_memalign(&data, kAlignment, std::max<size_t>(text.size(), 1)) != 0) {
    throw std::bad_alloc();
  }
  if (!text.empty()) std::memcpy(data, text.data(), text.size());
  return static_cast<uint8_t*>(data);
}

}  // namespace

std::shared_ptr<const Mapping> Mapping::Open(const std::filesystem::path& path) {
  RegularFile file(path);
  size_t size = file.Size(std::numeric_limits<int64_t>::max());
  if (size == 0) return Copy(path, "");
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (data == MAP_FAILED) {
    throw DeviceError(path.string(), ": cannot be mapped: ", std::strerror(errno));
  }
  std::shared_ptr<const Mapping> made(
      new Mapping(path, static_cast<const uint8_t*>(data), size, file.mode(), true));
  WatchPages(*made);
  return made;
}

std::shared_ptr<const Mapping> Mapping::Read(const std::filesystem::path& path, size_t limit) {
  RegularFile file(path);
  std::string content = file.Content(limit);
  return std::shared_ptr<const Mapping>(
      new Mapping(path, CopyOf(content), content.size(), file.mode(), false));
}

std::shared_ptr<const Mapping> Mapping::Copy(const std::filesystem::path& path,
                                             std::string_view text) {
  return std::shared_ptr<const Mapping>(new Mapping(path, CopyOf(text), text.size(), 0, false));
}

Mapping::~Mapping() {
  auto* data = const_cast<uint8_t*>(data_);
  if (mapped_) {
    ForgetPages(*this);
    munmap(data, size_);
  } else {
    std::free(data);
  }
}

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return text.str();
}

std::string FirstLine(const std::filesystem::path& path) {
  std::string text = ReadText(path);
  return text.substr(0, text.find('\n'));
}

}  // namespace handglass
