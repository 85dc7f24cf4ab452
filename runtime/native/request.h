// A question as a host prepared it: token ids, places for pictures, and when to stop.
//
// {"format": "handglass-request", "version": 1,
//  "prompt": [[1, 75, 8], {"picture": 0}, [9, 12]],   runs of ids, and rows of a picture
//  "stop": [2], "max_tokens": 512, "repeat_penalty": 1.0}
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bundle.h"

namespace handglass {

struct Segment {
  std::vector<int32_t> ids;
  int64_t picture = -1;  // its number, where there are no ids
};

struct Request {
  std::vector<Segment> prompt;
  std::vector<int32_t> stop;
  int64_t max_tokens = 0;
  double repeat_penalty = 1;

  /* Positions of the cache that the prompt takes. */
  int64_t Length(const Manifest& manifest) const;
};

/* A request of a file, or of standard input for "-"; `pictures` is how many there are. */
Request ReadRequest(const std::string& path, const Manifest& manifest, int64_t pictures);

}  // namespace handglass
