// The token loop: a request in, token ids out, greedily. runtime/answer/generate.py in C++, for one
// answer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "json.h"
#include "request.h"
#include "session.h"

namespace handglass {

/* The best of the logits (the first of equals), after the penalty on tokens generated before:
 * positive scores are divided by it, negative ones multiplied. DeviceError for what is no number.
 */
int32_t Choose(const ffi::Tensor& logits, const std::vector<int32_t>& generated, double penalty);

struct Answer {
  std::vector<int32_t> tokens;
  std::string finish_reason;          // "stop" or "length"
  std::vector<double> encode_s;       // of each picture; a tile that is shown again costs nothing
  std::vector<int64_t> image_tokens;  // positions that each picture takes
  int64_t prefill_tokens = 0, decode_tokens = 0;
  double prefill_s = 0, decode_s = 0, first_token_s = 0;

  /* The keys of runtime/answer/generate.py's Timings. */
  Json::Object Timings(double load_s) const;
};

/* `emit` gets each token as it comes. */
Answer Generate(Session& session, const Request& request, const std::vector<Tile>& tiles,
                const std::function<void(int32_t)>& emit);

}  // namespace handglass
