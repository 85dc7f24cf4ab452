// Kernels as the translation has written them: lines of a word and its numbers (translate.py).
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "machine.h"

namespace {

// A form's shared object stays open: other kernels have it, too.
Form form_named(const std::string& folder, const std::string& name) {
  const std::string path = folder + "form-" + name + ".so";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  return reinterpret_cast<Form>(dlsym(library, ("form_" + name).c_str()));
}

void read_data(Kernel& k, std::istream& line) {
  u64 begin, end;
  std::string hex;
  line >> begin >> end >> hex;
  k.constants.resize(end);
  for (u64 i = begin; i < end; i++)
    k.constants[i] = u8(strtoul(hex.substr(2 * (i - begin), 2).c_str(), nullptr, 16));
  k.data_ranges.push_back({begin, end});
}

void read_parameters(Kernel& k, std::istream& line) {
  u32 number;
  while (line >> number) k.layout.push_back(number);
}

// The form's number and those in its slots; `operands` is an index until all are read.
void read_use(Kernel& k, const std::vector<Form>& forms, const char* at) {
  char* next;
  k.uses.push_back({forms[strtoul(at, &next, 10)], nullptr});
  k.first_operands.push_back(k.operands.size());
  while (*next) k.operands.push_back(strtoull(next, &next, 10));
  k.steps.back().end++;
}

void read_line(Kernel& k, std::vector<Form>& forms, const std::string& folder,
               const std::string& text) {
  if (text.rfind("do ", 0) == 0) return read_use(k, forms, text.c_str() + 3);
  std::istringstream line(text);
  std::string word, name;
  line >> word;
  if (word == "kernel") line >> k.name;
  if (word == "sizes")
    line >> k.register_bytes >> k.shared_bytes >> k.local_bytes >> k.param_bytes >> k.granule >>
        k.accesses;
  if (word == "parameters") read_parameters(k, line);
  if (word == "data") read_data(k, line);
  if (word == "form" && line >> name) forms.push_back(form_named(folder, name));
  if (word == "step") {
    Step step{u32(k.uses.size()), u32(k.uses.size()), 0, 0};
    line >> step.line >> step.count;
    k.steps.push_back(step);
  }
  if (word == "text") {
    u32 number;
    line >> number;
    std::getline(line >> std::ws, k.texts[number]);
  }
}

// Addresses, which do not change any more.
void settle(Kernel& k) {
  k.constants.resize(k.constants.size() + 16);
  k.data = u64(k.constants.data()) + 15 & ~u64(15);
  memmove(reinterpret_cast<void*>(k.data), k.constants.data(), k.constants.size() - 16);
  for (Range& range : k.data_ranges) range.begin += k.data, range.end += k.data;
  for (size_t i = 0; i < k.uses.size(); i++) k.uses[i].operands = &k.operands[k.first_operands[i]];
  k.layout.insert(k.layout.begin(), u32(k.layout.size() / 2));
  k.layout.insert(k.layout.end(), {k.shared_bytes, k.param_bytes});
}

}  // namespace

// A kernel, which is never freed; nullptr and the reason if it cannot be read.
extern "C" const Kernel* load_kernel(const char* path, char* message) {
  try {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("it cannot be read");
    const std::string folder(path, std::string(path).rfind('/') + 1);
    Kernel* k = new Kernel;
    std::vector<Form> forms;
    for (std::string line; std::getline(file, line);) read_line(*k, forms, folder, line);
    settle(*k);
    return k;
  } catch (const std::exception& error) {
    snprintf(message, MESSAGE_BYTES, "%s: %s", path, error.what());
    return nullptr;
  }
}

// The number of parameters, each one's offset and size; bytes of shared memory and of all.
extern "C" const u32* kernel_layout(const Kernel* k) { return k->layout.data(); }
