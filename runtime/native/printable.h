// Text from files, escaped so that a terminal only shows it, as in runtime/system/printable.py.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace handglass {

/* The length in bytes of the character that `text` starts with, if it commands a terminal (C0, DEL,
 * C1) or overrides, embeds or isolates a direction; otherwise 0. */
inline size_t CommandLength(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  if (byte(0) < 0x20 || byte(0) == 0x7f) return 1;
  if (byte(0) == 0xc2 && byte(1) >= 0x80 && byte(1) < 0xa0) return 2;  // U+0080 to U+009F
  if (byte(0) != 0xe2) return 0;
  bool overrides = byte(1) == 0x80 && byte(2) >= 0xaa && byte(2) <= 0xae;  // U+202A to U+202E
  bool isolates = byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;   // U+2066 to U+2069
  return overrides || isolates ? 3 : 0;
}

/* A Python escape of a character for which `CommandLength` is not 0. */
inline std::string Escaped(std::string_view character) {
  int code = static_cast<uint8_t>(character.back());
  if (character.size() == 3) code = 0x2000 + ((character[1] & 0x3f) << 6) + (code & 0x3f);
  char text[8];
  std::snprintf(text, sizeof text, character.size() == 3 ? "\\u%04x" : "\\x%02x", code);
  return text;
}

/* A message for a terminal: on one line, because it may quote a file, and not longer than a screen.
 */
inline std::string Printable(std::string_view message) {
  constexpr size_t kLongest = 4000;
  std::string shown;
  while (!message.empty() && shown.size() < kLongest) {
    size_t command = CommandLength(message), length = command ? command : 1;
    shown += command ? Escaped(message.substr(0, length)) : std::string(message.substr(0, length));
    message.remove_prefix(length);
  }
  return shown;
}

}  // namespace handglass
