#include "request.h"

#include <algorithm>
#include <iostream>
#include <limits>

#include "errors.h"
#include "fields.h"

namespace handglass {
namespace {

constexpr size_t kMaxIds = 1 << 20, kMaxRequest = 16 << 20;
constexpr int64_t kVersion = 3;

std::vector<int32_t> ReadIds(const Json::List& list, const Manifest& manifest,
                             const std::string& where) {
  std::vector<int32_t> ids;
  for (int64_t id : Sizes(list, where)) {
    if (id >= manifest.vocab_size) {
      throw InputError(where, ": token id ", id, " is outside the vocabulary of ",
                       manifest.vocab_size);
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

void CheckReadsPictures(const Manifest& manifest, const std::string& where) {
  if (manifest.vision) return;
  throw InputError(where, ": shows a picture, but this model reads text alone; ask without any");
}

/* The number of tiles of each picture; their sum must be the number of --pixels. */
std::vector<int64_t> ReadPictures(const Json::List& list, int64_t tiles, const std::string& where) {
  std::vector<int64_t> pictures = Sizes(list, where);
  int64_t left = tiles;
  for (int64_t count : pictures) {
    if (count < 1 || count > left) {
      throw InputError(where, ": a picture of ", count, " tiles where ", left, " of ", tiles,
                       " --pixels are left");
    }
    left -= count;
  }
  if (left != 0) {
    throw InputError(where, ": ", left, " of ", tiles, " --pixels belong to no picture");
  }
  return pictures;
}

Segment ReadSegment(const Json& item, const Manifest& manifest, int64_t tiles,
                    const std::string& where) {
  if (const auto* list = item.As<Json::List>()) {
    if (list->empty()) throw InputError(where, ": an empty list of ids");
    return {ReadIds(*list, manifest, where), -1};
  }
  Fields fields(item, where);
  CheckReadsPictures(manifest, where);
  if (tiles == 0) throw InputError(where, ": a tile, but no --pixels was given");
  Segment segment = {{}, fields.Integer("tile", 0, tiles - 1)};
  fields.Done();
  return segment;
}

/* One after the other, the positions of all tokens: each in the context. */
std::vector<int32_t> ReadPositions(const Json::List& list, const Manifest& manifest,
                                   const std::string& where) {
  std::vector<int32_t> positions;
  for (const Json& item : list) {
    const auto* axes = item.As<Json::List>();
    if (axes == nullptr || axes->size() != kAxes) {
      throw InputError(where, ": not ", kAxes, " positions: ", Shown(item));
    }
    for (int64_t one : Sizes(*axes, where)) {
      if (one >= manifest.context) {
        throw InputError(where, ": position ", one, " is outside the context of ",
                         manifest.context);
      }
      positions.push_back(static_cast<int32_t>(one));
    }
  }
  return positions;
}

std::string ReadAll(const std::string& path) {
  if (path != "-") return std::string(Mapping::Read(path, kMaxRequest)->text());
  std::string text(kMaxRequest + 1, '\0');
  std::cin.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::cin.gcount()));
  if (text.size() > kMaxRequest) {
    throw InputError("standard input: larger than ", kMaxRequest, " bytes, the limit of a request");
  }
  return text;
}

}  // namespace

int64_t Request::Length(const std::vector<Tile>& tiles) const {
  int64_t length = 0;
  for (const Segment& segment : prompt) {
    length += segment.tile < 0 ? static_cast<int64_t>(segment.ids.size())
                               : tiles[static_cast<size_t>(segment.tile)].rows;
  }
  return length;
}

std::optional<int64_t> Request::PositionOf(int64_t place) const {
  if (positions.empty()) return std::nullopt;
  int64_t last = *std::max_element(positions.begin(), positions.end());
  return place + last + 1 - static_cast<int64_t>(positions.size()) / kAxes;
}

Request ReadRequest(const std::string& path, const Manifest& manifest, int64_t tiles) {
  return ParseRequest(ReadAll(path), path == "-" ? "standard input" : path, manifest, tiles);
}

Request ParseRequest(std::string_view text, const std::string& where, const Manifest& manifest,
                     int64_t tiles) {
  Json table;
  try {
    table = Json::Parse(text);
  } catch (const JsonError& error) {
    throw InputError(where, ": not valid JSON: ", error.what());
  }
  Fields fields(table, where);
  if (fields.Text("format") != "handglass-request" ||
      fields.Integer("version", 0, 1 << 20) != kVersion) {
    throw MismatchError(where, ": not a handglass-request of version ", kVersion,
                        "; write it with handglass.runtime.answer.native_request of the same "
                        "release");
  }
  Request request;
  const Json::List& pictures = fields.List("pictures", kMaxIds);
  if (tiles > 0 || !pictures.empty()) CheckReadsPictures(manifest, where);
  request.pictures = ReadPictures(pictures, tiles, where + ", pictures");
  for (const Json& item : fields.List("prompt", kMaxIds)) {
    std::string at = Words(where, ", segment ", request.prompt.size());
    request.prompt.push_back(ReadSegment(item, manifest, tiles, at));
  }
  request.positions =
      ReadPositions(fields.List("positions", kMaxIds), manifest, where + ", positions");
  request.stop = ReadIds(fields.List("stop", kMaxIds), manifest, where + ", stop");
  request.max_tokens = fields.Integer("max_tokens", 1, std::numeric_limits<int32_t>::max());
  request.thinking = fields.Truth("thinking");
  request.sampling = ReadSampling(fields.Inner("sampling"));
  fields.Done();
  if (request.prompt.empty()) throw InputError(where, ": the prompt is empty");
  return request;
}

}  // namespace handglass
