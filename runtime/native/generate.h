// Generation of one answer: a request in, token ids out. The counterpart of
// runtime/answer/generate.py.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "json.h"
#include "request.h"
#include "session.h"

namespace handglass {

struct Answer {
  std::vector<int32_t> tokens;
  std::string finish_reason;          // "stop" or "length"
  std::vector<double> encode_s;       // of each picture; a repeated tile takes no time
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
