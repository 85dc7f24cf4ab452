// A file in memory, read when it is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace handglass {

/* Private and read-only; the descriptor stays open, so that what was hashed is what is used. */
class Mapping {
 public:
  /* InputError if there is no such file. */
  static std::shared_ptr<const Mapping> Open(const std::filesystem::path& path);

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  const std::filesystem::path& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  int descriptor() const { return descriptor_; }

 private:
  Mapping(std::filesystem::path path, int descriptor, const uint8_t* data, size_t size)
      : path_(std::move(path)), descriptor_(descriptor), data_(data), size_(size) {}

  std::filesystem::path path_;
  int descriptor_;
  const uint8_t* data_;
  size_t size_;
};

/* The first line of a small file such as those of /sys, empty where there is none. */
std::string FirstLine(const std::filesystem::path& path);

/* All of a small file, empty where there is none. */
std::string ReadText(const std::filesystem::path& path);

}  // namespace handglass
