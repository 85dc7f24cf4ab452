#include "generate.h"

#include <cstring>
#include <set>

#include "clock.h"
#include "errors.h"

namespace handglass {
namespace {

double Rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

class Generator {
 public:
  Generator(Session& session, const Request& request, const std::vector<Tile>& tiles)
      : session_(session),
        request_(request),
        tiles_(tiles),
        encoded_(tiles.size()),
        encode_s_(tiles.size()),
        sampler_(request.sampling) {
    for (int32_t id : request.stop) stop_.insert(id);
  }

  Answer Run(const std::function<void(int32_t)>& emit) {
    double start = Now();
    int64_t position = request_.Length(tiles_), context = session_.manifest().context;
    if (position > context) {
      throw InputError("the prompt has ", position, " tokens, the context of this bundle holds ",
                       context, "; shorten it, or compile with a larger context");
    }
    CheckPositions(position);
    ffi::Tensor logits = Prefill(position);
    while (true) {
      int32_t token = sampler_(logits, answer_.tokens);
      if (stop_.contains(token)) return Finished("stop");
      answer_.tokens.push_back(token);
      if (answer_.first_token_s == 0) answer_.first_token_s = Now() - start;
      emit(token);
      auto count = static_cast<int64_t>(answer_.tokens.size());
      if (count == request_.max_tokens || position >= context) return Finished("length");
      double before = Now();
      logits = session_.Decode(token, position, request_.PositionOf(position));
      ++position;
      answer_.decode_s += Now() - before;
      ++answer_.decode_tokens;
    }
  }

 private:
  /* Before any picture is encoded. */
  void CheckPositions(int64_t length) const {
    auto given = static_cast<int64_t>(request_.positions.size());
    if (given == (session_.takes_positions() ? kAxes * length : 0)) return;
    throw InputError("the request has ", given / kAxes, " positions for ", length,
                     " tokens, of which this model takes ",
                     session_.takes_positions() ? length : 0,
                     "; write it with handglass.runtime.answer.native_request");
  }

  Answer Finished(const char* reason) {
    answer_.finish_reason = reason;
    CountPictures();
    return std::move(answer_);
  }

  /* Encoding time and positions of each picture: sums over its tiles, which are adjacent. */
  void CountPictures() {
    size_t tile = 0;
    for (int64_t count : request_.pictures) {
      double seconds = 0;
      int64_t rows = 0;
      for (size_t end = tile + static_cast<size_t>(count); tile < end; ++tile) {
        seconds += encode_s_[tile];
        rows += tiles_[tile].rows;
      }
      answer_.encode_s.push_back(seconds);
      answer_.image_tokens.push_back(rows);
    }
  }

  ffi::Tensor Prefill(int64_t length) {
    double start = Now(), encoding = 0;
    ffi::Tensor rows = EmptyTensor({length, session_.manifest().hidden_size}, DataType("float32"));
    auto* to = static_cast<char*>(rows.data_ptr());
    for (const Segment& segment : request_.prompt) {
      double before = Now();
      ffi::Tensor part = segment.tile < 0 ? session_.Embed(segment.ids)
                                          : Features(static_cast<size_t>(segment.tile));
      if (segment.tile >= 0) encoding += Now() - before;
      size_t bytes = static_cast<size_t>(part.numel()) * sizeof(float);
      std::memcpy(to, part.data_ptr(), bytes);
      to += bytes;
    }
    ffi::Tensor logits = session_.Prefill(rows, 0, request_.positions);
    answer_.prefill_s = Now() - start - encoding;
    answer_.prefill_tokens = length;
    return logits;
  }

  /* Encodes each tile once, even if the prompt shows it several times. */
  ffi::Tensor Features(size_t tile) {
    auto& encoded = encoded_[tile];
    if (!encoded) {
      double start = Now();
      encoded = session_.EncodeImage(tiles_[tile]);
      encode_s_[tile] = Now() - start;
    }
    return *encoded;
  }

  Session& session_;
  const Request& request_;
  const std::vector<Tile>& tiles_;
  std::vector<std::optional<ffi::Tensor>> encoded_;
  std::vector<double> encode_s_;  // of each tile
  std::set<int32_t> stop_;
  Sampler sampler_;
  Answer answer_;
};

}  // namespace

Json::Object Answer::Timings(double load_s) const {
  Json::List encode_ms;
  for (double seconds : encode_s) encode_ms.emplace_back(seconds * 1e3);
  Json::List positions(image_tokens.begin(), image_tokens.end());
  return {{"load_s", load_s},
          {"encode_ms", encode_ms},
          {"image_tokens", positions},
          {"prefill_tokens", prefill_tokens},
          {"reused_tokens", 0},
          {"prefill_tok_s", Rate(prefill_tokens, prefill_s)},
          {"decode_tokens", decode_tokens},
          {"decode_tok_s", Rate(decode_tokens, decode_s)},
          {"ttft_ms", first_token_s * 1e3},
          {"peak_mb", static_cast<double>(PeakBytes()) / 1e6}};
}

Answer Generate(Session& session, const Request& request, const std::vector<Tile>& tiles,
                const std::function<void(int32_t)>& emit) {
  return Generator(session, request, tiles).Run(emit);
}

}  // namespace handglass
