// A request for a model that reads pictures, with two tiles.

#include "request.h"

#include "fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Manifest manifest;
  manifest.vocab_size = 100;
  manifest.context = 64;
  manifest.vision = Vision{56, 14, 4, 0};
  Try([&] {
    Request request = ParseRequest(Input(data, size), "request", manifest, 2);
    std::vector<Tile> tiles(2);
    for (Tile& tile : tiles) tile.rows = 4;
    request.Length(tiles);
    request.PositionOf(3);
  });
  return 0;
}
