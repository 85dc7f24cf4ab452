// PTX to kernels of the emulator by the command in the environment variable HANDGLASS_CUDA_EMULATOR
// (tests/cuda/emulator/__main__.py).
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "machine.h"

namespace emulated {
namespace {

/* What the translator answers: the path of a file. Throws its reason if it makes none. */
std::string Ask(const std::string& arguments) {
  const char* command = std::getenv("HANDGLASS_CUDA_EMULATOR");
  if (!command) throw std::runtime_error("HANDGLASS_CUDA_EMULATOR is not set");
  FILE* pipe = popen((command + std::string(" ") + arguments).c_str(), "r");
  if (!pipe) throw std::runtime_error("no process for HANDGLASS_CUDA_EMULATOR");
  std::string answer;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe)) answer += line;
  const int status = pclose(pipe);
  if (status) throw std::runtime_error(answer + "exit status " + std::to_string(status));
  while (!answer.empty() && answer.back() == '\n') answer.pop_back();
  return answer;
}

}  // namespace

std::string KeepPtx(const char* ptx) {
  char path[] = "/tmp/emulated-XXXXXX";
  const int file = mkstemp(path);
  const size_t size = std::strlen(ptx);
  const bool written = write(file, ptx, size) == static_cast<ssize_t>(size);
  close(file);
  if (!written) throw std::runtime_error("PTX cannot be written to " + std::string(path));
  try {
    const std::string kept = Ask(path);
    unlink(path);
    return kept;
  } catch (...) {
    unlink(path);
    throw;
  }
}

Opened OpenKernel(const std::string& kept, const std::string& kernel) {
  std::string path = kept.substr(0, kept.size() - std::strlen(".ptx")) + "-" + kernel + ".kernel";
  if (access(path.c_str(), R_OK)) path = Ask(kept + " " + kernel);
  std::string word, name;
  std::ifstream(path) >> word >> name;  // the file begins with "machine" and its library's name
  const std::string library = path.substr(0, path.rfind('/') + 1) + name;
  void* machine = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!machine) throw std::runtime_error(dlerror());
  using Load = const void* (*)(const char* path, char* message);
  char message[512] = {};
  const void* loaded = reinterpret_cast<Load>(dlsym(machine, "load_kernel"))(path.c_str(), message);
  if (!loaded) throw std::runtime_error(message);
  return {machine, loaded};
}

}  // namespace emulated
