// Applies the setting that names the device which becomes KIND:0.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace handglass {

/* The position in `names` of a device that is named by its index or by part of its name, in any
 * case. Throws, naming the environment variable `variable`, if there is none. */
size_t IndexOfNamed(const std::vector<std::string>& names, const std::string& wanted,
                    const std::string& variable);

/* Moves the named device to the front; each device has a `name`. Does nothing for "". */
template <typename Device>
void MoveNamedToFront(std::vector<Device>* devices, const std::string& wanted,
                      const std::string& variable) {
  if (wanted.empty()) return;
  std::vector<std::string> names;
  for (const Device& each : *devices) names.push_back(each.name);
  const auto found = devices->begin() + IndexOfNamed(names, wanted, variable);
  std::rotate(devices->begin(), found, found + 1);
}

}  // namespace handglass
