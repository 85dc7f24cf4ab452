// A question prepared by the host: token ids, positions of picture tiles, and stop conditions.
//
// {"format": "handglass-request", "version": 3,
//  "pictures": [1],                                how many of the tiles each picture has, in order
//  "prompt": [[1, 75, 8], {"tile": 0}, [9, 12]],   runs of ids, and rows of a tile
//  "positions": [],                                [time, row, column] of each token, or none
//  "stop": [2], "max_tokens": 512, "thinking": false,
//  "sampling": {"temp": 0.0, "top_k": 0, "top_p": 1.0, "repeat_penalty": 1.0, "seed": 0}}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bundle.h"
#include "sampler.h"
#include "session.h"

namespace handglass {

struct Segment {
  std::vector<int32_t> ids;
  int64_t tile = -1;  // index of a tile, -1 for a run of ids
};

struct Request {
  std::vector<int64_t> pictures;  // tiles of each
  std::vector<Segment> prompt;
  std::vector<int32_t> positions;  // kAxes for each token of the prompt, or empty
  std::vector<int32_t> stop;
  int64_t max_tokens = 0;
  bool thinking = false;  // of no effect here; the host needs it to read the answer
  Sampling sampling;

  /* Positions that the prompt takes in the context. */
  int64_t Length(const std::vector<Tile>& tiles) const;

  /* The rotary position of a generated token at this place; none if tokens have no positions. */
  std::optional<int64_t> PositionOf(int64_t place) const;
};

/* Reads a request from a file, or from standard input for "-". `tiles` is the number of tiles given
 * with it, 0 for a text-only bundle. InputError if the request is malformed or does not fit. */
Request ReadRequest(const std::string& path, const Manifest& manifest, int64_t tiles);

/* The same for the text of a request; `where` names it in messages. */
Request ParseRequest(std::string_view text, const std::string& where, const Manifest& manifest,
                     int64_t tiles);

}  // namespace handglass
