// The machine code of a module: one image per architecture, and the choice among them.
#pragma once

#include <string>
#include <vector>

namespace handglass {
namespace cuda {

struct Image {
  std::string architecture;  // "sm_87": a cubin; "compute_87": PTX
  std::string content;       // of PTX: text that ends with a NUL
  bool is_ptx = false;
  int capability = 0;    // 87
  bool exact = false;    // "sm_90a" runs on no other chip
};

/* Throws if the architecture is not spelled as above, or the content is none. */
Image MakeImage(std::string architecture, std::string content);

/* The images that a device of this capability can run, the best first: its own machine code, that
 * of older chips of its generation, then PTX, the newest first. */
std::vector<const Image*> FittingImages(const std::vector<Image>& images, int capability);

/* "sm_80, sm_87, compute_87" */
std::string NamesOf(const std::vector<Image>& images);

}  // namespace cuda
}  // namespace handglass
