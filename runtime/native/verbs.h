// The subcommands of `handglass-native`; each returns the exit code.
#pragma once

#include <string>
#include <vector>

namespace handglass {

using Arguments = std::vector<std::string>;

int RunVerb(const Arguments& arguments);
int BenchVerb(const Arguments& arguments);
int ServeVerb(const Arguments& arguments);
int DescribeVerb(const Arguments& arguments);

}  // namespace handglass
