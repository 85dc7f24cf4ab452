// handglass-native bench: how fast a bundle loads, encodes a tile of a picture, prefills and
// decodes, next to the limits of the machine as measured by the bundle's probes. Rows are
// interleaved, so a machine that slows down affects all of them alike.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>

#include "clock.h"
#include "errors.h"
#include "generate.h"
#include "options.h"
#include "verbs.h"

namespace handglass {
namespace {

constexpr int64_t kPrompt = 64, kDecoded = 64;
constexpr int64_t kReadBytes = 256 << 20, kSteps = 1024, kWidth = 64;  // of probe_read
constexpr int64_t kRounds = 1 << 20;                                   // of the other probes

struct Row {
  std::string name, unit;
  std::function<double()> figure;
  std::vector<double> figures;
};

/* Linear between neighbours, as numpy's percentile. */
double Percentile(std::vector<double> figures, double percent) {
  std::sort(figures.begin(), figures.end());
  double place = percent / 100 * static_cast<double>(figures.size() - 1);
  auto below = static_cast<size_t>(place);
  size_t above = std::min(below + 1, figures.size() - 1);
  return figures[below] + (place - static_cast<double>(below)) * (figures[above] - figures[below]);
}

double Timed(const std::function<void()>& work) {
  double start = Now();
  work();
  return Now() - start;
}

/* Seconds that a separate process takes to load the bundle. Must be called before any thread is
 * started, because it forks. */
double LoadSeconds(const std::string& path, Verify verify, std::optional<int64_t> threads) {
  int channel[2];
  if (pipe(channel) != 0) throw DeviceError("cannot create a pipe: ", std::strerror(errno));
  pid_t child = fork();
  if (child < 0) throw DeviceError("cannot start a process: ", std::strerror(errno));
  if (child == 0) {
    try {
      double seconds = Timed([&] { Session(Bundle(path, verify), threads); });
      _exit(write(channel[1], &seconds, sizeof(seconds)) == sizeof(seconds) ? 0 : 1);
    } catch (const std::exception&) {
      _exit(1);  // loading in this process fails the same way and reports the error
    }
  }
  double seconds = 0;
  close(channel[1]);
  bool whole = read(channel[0], &seconds, sizeof(seconds)) == sizeof(seconds);
  close(channel[0]);
  waitpid(child, nullptr, 0);
  return whole ? seconds : NAN;
}

/* A tile of noise, the largest square that the bundle takes. */
Tile NoiseTile(const Vision& vision) {
  int64_t p = vision.patch_size, side = vision.side(), n = side * side;
  Tile tile = {EmptyTensor({3, p, p * n}, DataType("float32")), EmptyTensor({n}, DataType("int32")),
               EmptyTensor({n, 2}, DataType("int32")), vision.Rows(n)};
  std::mt19937 random(0);
  std::uniform_real_distribution<float> value(-1, 1);
  auto* pixels = static_cast<float*>(tile.pixels.data_ptr());
  for (int64_t i = 0; i < tile.pixels.numel(); ++i) pixels[i] = value(random);
  auto* ids = static_cast<int32_t*>(tile.position_ids.data_ptr());
  auto* grid = static_cast<int32_t*>(tile.grid.data_ptr());
  for (int64_t i = 0; i < n; ++i) {
    Place place = vision.PlaceOf(i, side);
    int64_t id = vision.places_per_row > 0 ? place.row * vision.places_per_row + place.column
                                           : i % std::max<int64_t>(vision.positions, 1);
    ids[i] = static_cast<int32_t>(id);
    grid[2 * i] = static_cast<int32_t>(place.row);
    grid[2 * i + 1] = static_cast<int32_t>(place.column);
  }
  return tile;
}

class Benchmark {
 public:
  Benchmark(Session& session) : session_(session) {
    std::mt19937 random(0);
    std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(manifest().vocab_size - 1));
    for (int64_t i = 0; i < kPrompt; ++i) ids_.push_back(id(random));
    AddRows();
    AddLimits();
  }

  void Run(int64_t samples) {
    session_.FillState();
    for (Row& row : rows_) row.figure();  // warm up: touch pages, start the thread pool
    for (int64_t sample = 0; sample < samples; ++sample) {
      for (Row& row : rows_) row.figures.push_back(row.figure());
    }
  }

  const std::vector<Row>& rows() const { return rows_; }

 private:
  const Manifest& manifest() const { return session_.manifest(); }

  void Add(std::string name, std::string unit, std::function<double()> figure) {
    rows_.push_back({std::move(name), std::move(unit), std::move(figure), {}});
  }

  void AddRows() {
    if (session_.Has("encode_image") && manifest().vision) {
      auto encode = [this, tile = NoiseTile(*manifest().vision)] { session_.EncodeImage(tile); };
      Add("encode", "ms", [encode] { return 1e3 * Timed(encode); });
    }
    auto prefill = [this] { session_.Prefill(session_.Embed(ids_), 0); };
    auto decode = [this] { Decode(); };
    if (manifest().context < std::max(kPrompt, kDecoded)) return;
    if (session_.Has("embed") && session_.Has("prefill")) {
      Add("pp64", "tok/s", [prefill] { return kPrompt / Timed(prefill); });
    }
    if (session_.Has("decode")) {
      Add("tg64@0", "tok/s", [decode] { return kDecoded / Timed(decode); });
    }
  }

  void AddLimits() {
    AddRead();
    for (const std::string kind : {"fma", "dot4", "dot8"}) {
      auto probe = session_.Probe("probe_" + kind);
      if (!probe) continue;
      Add("limit " + kind, kind == "fma" ? "GFLOP/s" : "GOP/s",
          [this, probe] { return Multiply(*probe) / 1e9; });
    }
  }

  void AddRead() {
    auto probe = session_.Probe("probe_read");
    if (!probe) return;
    int64_t bytes = std::max(kReadBytes, 8 * LastLevelCache());
    int64_t tasks = bytes / (kSteps * kWidth * static_cast<int64_t>(sizeof(float)));
    ffi::Tensor data = EmptyTensor({tasks, kSteps, kWidth}, DataType("float32"));
    std::fill_n(static_cast<float*>(data.data_ptr()), data.numel(), 1.0F);
    double gigabytes = static_cast<double>(data.numel()) * sizeof(float) / 1e9;
    auto read = [probe, data] { (*probe)(data); };
    Add("limit read", "GB/s", [read, gigabytes] { return gigabytes / Timed(read); });
  }

  double Multiply(const ffi::Function& probe) const {
    int64_t values = 0;
    double seconds = Timed([&] {
      values = probe(ffi::Shape({session_.threads(), kRounds})).cast<ffi::Tensor>().numel();
    });
    return 2.0 * static_cast<double>(values) * kRounds / seconds;
  }

  /* Greedy decoding, starting with token 0. */
  void Decode() {
    Sampler greedy{Sampling()};
    int32_t token = 0;
    for (int64_t pos = 0; pos < kDecoded; ++pos) token = greedy(session_.Decode(token, pos), {});
  }

  Session& session_;
  std::vector<int32_t> ids_;
  std::vector<Row> rows_;
};

Json::Object RowObject(const Row& row) {
  return {{"row", row.name},
          {"unit", row.unit},
          {"min", *std::min_element(row.figures.begin(), row.figures.end())},
          {"median", Percentile(row.figures, 50)},
          {"p90", Percentile(row.figures, 90)},
          {"samples", static_cast<int64_t>(row.figures.size())}};
}

void Print(const std::vector<Row>& rows, int threads) {
  std::printf("%-12s %10s %10s %10s   %d threads\n", "", "min", "median", "p90", threads);
  for (const Row& row : rows) {
    std::vector<double> sorted = row.figures;
    std::sort(sorted.begin(), sorted.end());
    std::printf("%-12s %10.4g %10.4g %10.4g   %s\n", row.name.c_str(), sorted.front(),
                Percentile(sorted, 50), Percentile(sorted, 90), row.unit.c_str());
  }
  std::printf("peak memory %.0f MB\n", static_cast<double>(PeakBytes()) / 1e6);
}

}  // namespace

int BenchVerb(const Arguments& arguments) {
  Options options(arguments, {"--samples", "--threads", "--verify"}, {"--json"});
  int64_t samples = options.Integer("--samples", 1, 1000).value_or(5);
  auto threads = options.Integer("--threads", 1, 1 << 20);
  std::string path = options.Word("a bundle folder"),
              text = options.Text("--verify").value_or("all");
  if (text != "all" && text != "library") throw UsageError("--verify must be all or library");
  Verify verify = text == "all" ? Verify::kAll : Verify::kLibrary;

  Row load = {"load", "s", [&] { return LoadSeconds(path, verify, threads); }, {}};
  for (int64_t sample = 0; sample < samples; ++sample) load.figures.push_back(load.figure());
  Bundle bundle(path, verify);
  Session session(bundle, threads);
  if (std::isnan(load.figures.back())) throw DeviceError("a process that loads the bundle died");
  Benchmark benchmark(session);
  benchmark.Run(samples);
  std::vector<Row> rows = benchmark.rows();
  rows.insert(rows.begin(), std::move(load));
  if (!options.Has("--json")) {
    Print(rows, session.threads());
    return 0;
  }
  Json::List listed;
  for (const Row& row : rows) listed.emplace_back(RowObject(row));
  Json::Object report = {
      {"rows", listed}, {"peak_bytes", PeakBytes()}, {"threads", session.threads()}};
  std::printf("%s\n", Json(report).Dump().c_str());
  return 0;
}

}  // namespace handglass
