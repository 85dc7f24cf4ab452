// Reads settings from environment variables.
#pragma once

#include <string>

namespace handglass {

/* Empty if the variable is not set. */
std::string Variable(const std::string& name);

/* A number in [least, most], or `otherwise` if the variable is not set. Throws for other text. */
double NumberVariable(const std::string& name, double otherwise, double least, double most);

/* 0 or 1, or `otherwise` if the variable is not set. Throws for other text. */
bool FlagVariable(const std::string& name, bool otherwise);

}  // namespace handglass
