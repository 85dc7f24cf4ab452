// handglass-native: bundles and candidates on a device without Python.

#include <cstdio>
#include <exception>
#include <map>
#include <new>
#include <string>

#include "errors.h"
#include "printable.h"
#include "verbs.h"

namespace handglass {
namespace {

constexpr int kDefect = 70;
constexpr char kHelp[] =
    "handglass-native " HANDGLASS_VERSION
    "\n"
    "  run BUNDLE --ids FILE|- [--pixels FILE ...] [-n N] [--threads N] [--verify all|library]\n"
    "      answer a question that handglass.runtime.answer.native_request wrote: an id per line,\n"
    "      then one JSON object with the times\n"
    "  bench BUNDLE [--samples N] [--threads N] [--json]\n"
    "      how fast a bundle loads, encodes a tile and 64 tokens, and decodes\n"
    "  serve --port P --key-file FILE [--host ADDRESS] [--expose] [--threads N] [--dir DIR]\n"
    "      let a machine that knows the key measure kernels here\n"
    "  describe [--threads N]\n"
    "      this machine, as one JSON object\n";

using Verb = int (*)(const Arguments&);

int Main(const Arguments& arguments) {
  static const std::map<std::string, Verb> verbs = {
      {"run", RunVerb}, {"bench", BenchVerb}, {"serve", ServeVerb}, {"describe", DescribeVerb}};
  std::string name = arguments.empty() ? "" : arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  auto verb = verbs.find(name);
  if (verb == verbs.end()) {
    std::fputs(kHelp, stderr);
    throw UsageError(name.empty() ? "no command was given" : "unknown command '" + name + "'");
  }
  return verb->second(Arguments(arguments.begin() + 1, arguments.end()));
}

/* Prints the message of an error and returns its exit code. Other exceptions are defects. */
int Guarded(const Arguments& arguments) {
  try {
    return Main(arguments);
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", Printable(error.what()).c_str());
    return error.exit_code;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory\n");
    return 4;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: a defect of handglass, please report it: %s\n",
                 Printable(error.what()).c_str());
    return kDefect;
  }
}

}  // namespace
}  // namespace handglass

int main(int count, char** arguments) {
  return handglass::Guarded(handglass::Arguments(arguments + 1, arguments + count));
}
