#include "images.h"

#include <algorithm>
#include <cstring>

#include "failure.h"

namespace handglass {
namespace cuda {
namespace {

constexpr char kCubin[] = "sm_";
constexpr char kPtx[] = "compute_";

bool StartsWith(const std::string& text, const char* start) {
  return text.rfind(start, 0) == 0;
}

/* Chips with an integrated GPU, whose machine code runs on no discrete one, nor the reverse. */
bool IsTegra(int capability) {
  constexpr int kTegra[] = {53, 62, 72, 87, 101, 110};
  return std::count(std::begin(kTegra), std::end(kTegra), capability) > 0;
}

/* From 0, the best, to 2; -1 if the image does not run there. */
int Rank(const Image& image, int capability) {
  if (image.capability == capability) return image.is_ptx ? 2 : 0;
  if (image.exact || image.capability > capability) return -1;
  if (image.is_ptx) return 2;
  const bool same_generation = image.capability / 10 == capability / 10;
  return same_generation && !IsTegra(image.capability) && !IsTegra(capability) ? 1 : -1;
}

}  // namespace

Image MakeImage(std::string architecture, std::string content) {
  Image image;
  image.is_ptx = StartsWith(architecture, kPtx);
  if (!image.is_ptx && !StartsWith(architecture, kCubin)) {
    Fail("damaged module: an image for \"", architecture, "\"");
  }
  std::string digits = architecture.substr(std::strlen(image.is_ptx ? kPtx : kCubin));
  image.exact = !digits.empty() && (digits.back() == 'a' || digits.back() == 'f');
  if (image.exact) digits.pop_back();
  const bool is_number = digits.find_first_not_of("0123456789") == std::string::npos;
  if (digits.size() < 2 || digits.size() > 3 || !is_number) {
    Fail("damaged module: an image for \"", architecture, "\"");
  }
  if (content.empty() || (image.is_ptx && content.back() != '\0')) {
    Fail("damaged module: the image for ", architecture, " is incomplete");
  }
  image.capability = std::stoi(digits);
  image.architecture = std::move(architecture);
  image.content = std::move(content);
  return image;
}

std::vector<const Image*> FittingImages(const std::vector<Image>& images, int capability) {
  std::vector<const Image*> fitting;
  for (const Image& image : images) {
    if (Rank(image, capability) >= 0) fitting.push_back(&image);
  }
  std::stable_sort(fitting.begin(), fitting.end(), [capability](const Image* a, const Image* b) {
    const int first = Rank(*a, capability);
    const int second = Rank(*b, capability);
    return first != second ? first < second : a->capability > b->capability;
  });
  return fitting;
}

std::string NamesOf(const std::vector<Image>& images) {
  std::string names;
  for (const Image& image : images) names += (names.empty() ? "" : ", ") + image.architecture;
  return names;
}

}  // namespace cuda
}  // namespace handglass
