// The bytes of a regular file: mapped, or read into private memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace handglass {

/* A read-only view of a file. Only regular files are opened, so a FIFO or a device cannot block. */
class Mapping {
 public:
  /* Maps the file; pages are read on first access. For parameters: they are large, and
   * harmless if another process changes them. If it truncates the file, this process prints an
   * error and exits with code 5 on access to a lost page. InputError if the file cannot be read. */
  static std::shared_ptr<const Mapping> Open(const std::filesystem::path& path);

  /* Reads the file into private memory, so that it cannot change between check and use. InputError
   * if the file cannot be read or has more than `limit` bytes. */
  static std::shared_ptr<const Mapping> Read(const std::filesystem::path& path, size_t limit);

  /* A copy of `text`, as if it had been read from `path`. */
  static std::shared_ptr<const Mapping> Copy(const std::filesystem::path& path,
                                             std::string_view text);

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  const std::filesystem::path& path() const { return path_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  /* Permission bits of the file when it was opened. */
  unsigned mode() const { return mode_; }

 private:
  Mapping(std::filesystem::path path, const uint8_t* data, size_t size, unsigned mode, bool mapped)
      : path_(std::move(path)), data_(data), size_(size), mode_(mode), mapped_(mapped) {}

  std::filesystem::path path_;
  const uint8_t* data_;
  size_t size_;
  unsigned mode_;
  bool mapped_;
};

/* The first line of a small file of /sys or /proc, empty if there is none. */
std::string FirstLine(const std::filesystem::path& path);

/* The text of a small file of /sys or /proc, empty if there is none. */
std::string ReadText(const std::filesystem::path& path);

}  // namespace handglass
