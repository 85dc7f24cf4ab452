// handglass-native run: generates one answer as token ids, which the host converts to text.

#include <cstdio>
#include <cstring>

#include "clock.h"
#include "errors.h"
#include "generate.h"
#include "options.h"
#include "verbs.h"

namespace handglass {
namespace {

constexpr int64_t kMost = 1 << 20;

void PrintLine(const std::string& line) {
  if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0) {
    throw DeviceError("cannot write to standard output: ", std::strerror(errno));
  }
}

/* Throws unless the bundle has the functions that an answer needs. */
void CheckCanAnswer(const Manifest& manifest, bool with_tiles) {
  std::vector<std::string> wanted = {"embed", "prefill", "decode"};
  if (with_tiles) wanted.push_back("encode_image");
  for (const std::string& name : wanted) {
    auto found = manifest.functions.find(name);
    if (found == manifest.functions.end()) {
      throw MismatchError("this bundle cannot answer: it has no function '", name, "'");
    }
    found->second.CheckCallable(name);
  }
}

}  // namespace

/* Prints one id per line as it is generated, then one JSON object. */
int RunVerb(const Arguments& arguments) {
  Options options(arguments, {"--ids", "--pixels", "-n", "--threads", "--verify"}, {});
  std::string verify = options.Text("--verify").value_or("all");
  if (verify != "all" && verify != "library") throw UsageError("--verify must be all or library");
  auto ids = options.Text("--ids");
  if (!ids) throw UsageError("--ids FILE is missing: the question, or - for standard input");
  auto limit = options.Integer("-n", 1, kMost);
  auto threads = options.Integer("--threads", 1, kMost);

  double start = Now();
  Bundle bundle(options.Word("a bundle folder"), verify == "all" ? Verify::kAll : Verify::kLibrary);
  const Manifest& manifest = bundle.manifest();
  std::vector<std::string> files = options.All("--pixels");
  Request request = ReadRequest(*ids, manifest, static_cast<int64_t>(files.size()));
  CheckCanAnswer(manifest, !files.empty());
  if (limit) request.max_tokens = *limit;
  std::vector<Tile> tiles;
  for (const std::string& file : files) tiles.push_back(ReadTile(file, *manifest.vision));
  Session session(bundle, threads);
  double load_s = Now() - start;

  Answer answer =
      Generate(session, request, tiles, [](int32_t token) { PrintLine(std::to_string(token)); });
  PrintLine(Json(Json::Object{{"finish_reason", answer.finish_reason},
                              {"tokens", static_cast<int64_t>(answer.tokens.size())},
                              {"thinking", request.thinking},
                              {"timings", answer.Timings(load_s)}})
                .Dump());
  return 0;
}

int DescribeVerb(const Arguments& arguments) {
  Options options(arguments, {"--threads"}, {});
  if (!options.words().empty()) throw UsageError("describe takes no arguments");
  PrintLine(Json(Description(options.Integer("--threads", 1, kMost))).Dump());
  return 0;
}

}  // namespace handglass
