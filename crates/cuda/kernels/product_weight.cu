// The gradient of a product's weights: dw [out, in] += dy [n, out]ᵀ x [n, in]. Both operands lie by rows of k, which are summed in chunks.
//
// In the shapes that the host chooses from, and one for rows that do not begin at multiples of 16 bytes.

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void backward_weight(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, false, false>>(p); }

KERNEL(backward_weight_elements, Product, 128) { backward_weight<64, 64, 32, 1, 2, 2>(p); }
KERNEL(backward_weight_64x64x64, Product, 128) { backward_weight<64, 64, 64, 4, 2, 2>(p); }
KERNEL(backward_weight_64x128x64, Product, 128) { backward_weight<64, 128, 64, 4, 2, 2>(p); }
KERNEL(backward_weight_128x128x64, Product, 128) { backward_weight<128, 128, 64, 3, 2, 2>(p); }
KERNEL(backward_weight_128x256x64, Product, 256) { backward_weight<128, 256, 64, 3, 2, 4>(p); }
