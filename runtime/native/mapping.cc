#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "errors.h"

namespace handglass {

std::shared_ptr<const Mapping> Mapping::Open(const std::filesystem::path& path) {
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat found = {};
  if (descriptor < 0 || fstat(descriptor, &found) != 0 || !S_ISREG(found.st_mode)) {
    std::string reason = descriptor < 0 ? std::strerror(errno) : "not a plain file";
    if (descriptor >= 0) close(descriptor);
    throw InputError(path.string(), ": cannot be read: ", reason);
  }
  auto size = static_cast<size_t>(found.st_size);
  void* data = size == 0 ? nullptr : mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) {
    std::string reason = std::strerror(errno);
    close(descriptor);
    throw DeviceError(path.string(), ": cannot be mapped: ", reason);
  }
  return std::shared_ptr<const Mapping>(
      new Mapping(path, descriptor, static_cast<const uint8_t*>(data), size));
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  close(descriptor_);
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
