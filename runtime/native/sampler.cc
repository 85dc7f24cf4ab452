#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "errors.h"

namespace handglass {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();

/* A token that may be chosen. */
struct Candidate {
  int32_t id;
  double weight;
};

void CheckFinite(const float* values, int64_t count) {
  if (std::all_of(values, values + count, [](float value) { return std::isfinite(value); })) return;
  throw DeviceError(
      "the model returned values that are not numbers; the bundle may be damaged or its arithmetic "
      "may overflow on this device");
}

/* Divides positive scores of generated tokens by the penalty, multiplies negative ones by it. */
void Penalise(std::vector<double>& scores, const std::vector<int32_t>& generated, double penalty) {
  if (penalty == 1) return;
  for (int32_t id : std::set<int32_t>(generated.begin(), generated.end())) {
    double& score = scores[static_cast<size_t>(id)];
    score = score > 0 ? score / penalty : score * penalty;
  }
}

/* The least score among the k best (0: all). */
double Least(std::vector<double> scores, int64_t k) {
  if (k == 0 || k >= static_cast<int64_t>(scores.size())) return -INFINITY;
  auto least = scores.begin() + (k - 1);
  std::nth_element(scores.begin(), least, scores.end(), std::greater<>());
  return *least;
}

/* The k best tokens, with ties, in the order of their ids; their probabilities as weights. */
std::vector<Candidate> Best(const std::vector<double>& scores, int64_t k, double temp) {
  double least = Least(scores, k), top = *std::max_element(scores.begin(), scores.end()), sum = 0;
  std::vector<Candidate> best;
  for (size_t id = 0; id < scores.size(); ++id) {
    if (scores[id] < least) continue;
    best.push_back({static_cast<int32_t>(id), std::exp((scores[id] - top) / temp)});
    sum += best.back().weight;
  }
  for (Candidate& one : best) one.weight /= sum;
  return best;
}

/* Leaves the smallest set of most likely tokens with a total of at least p, best first. */
void CutNucleus(std::vector<Candidate>& best, double p) {
  if (p == 1) return;
  auto before = [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; };
  std::stable_sort(best.begin(), best.end(), before);
  double sum = 0;
  auto end = std::find_if(best.begin(), best.end(), [&](const Candidate& one) {
    sum += one.weight;
    return sum - one.weight >= p;
  });
  best.erase(end, best.end());
}

}  // namespace

Sampling ReadSampling(Fields fields) {
  Sampling sampling;
  sampling.temp = fields.Number("temp", 0, kLargest);
  sampling.top_k = fields.Integer("top_k", 0, std::numeric_limits<int64_t>::max());
  sampling.top_p = fields.Number("top_p", kSmallest, 1);
  sampling.repeat_penalty = fields.Number("repeat_penalty", kSmallest, kLargest);
  sampling.seed = fields.Integer("seed", 0, std::numeric_limits<int64_t>::max());
  fields.Done();
  return sampling;
}

int32_t Sampler::operator()(const ffi::Tensor& logits, const std::vector<int32_t>& generated) {
  const auto* values = static_cast<const float*>(logits.data_ptr());
  int64_t count = logits.numel();
  CheckFinite(values, count);
  if (sampling_.temp == 0 && sampling_.repeat_penalty == 1) {
    return static_cast<int32_t>(std::max_element(values, values + count) - values);
  }
  std::vector<double> scores(values, values + count);
  Penalise(scores, generated, sampling_.repeat_penalty);
  if (sampling_.temp > 0) return Draw(scores);
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

/* A random token, with a probability proportional to its weight. */
int32_t Sampler::Draw(const std::vector<double>& scores) {
  std::vector<Candidate> best = Best(scores, sampling_.top_k, sampling_.temp);
  CutNucleus(best, sampling_.top_p);
  std::vector<double> reached;
  double sum = 0;
  for (const Candidate& one : best) reached.push_back(sum += one.weight);
  double drawn = random_.Next() * sum;
  auto place = std::upper_bound(reached.begin(), reached.end() - 1, drawn) - reached.begin();
  return best[static_cast<size_t>(place)].id;
}

}  // namespace handglass
