// The gradient of a product's input: dx [n, in] = dy [n, out] w [out, in]. w lies by rows of k.
//
// In the shapes that the host chooses from, and one for rows that do not begin at multiples of 16 bytes.

template <int M, int N, int K, int STAGES, int WARPS_M, int WARPS_N>
DEVICE void backward_input(const Product& p) { product<Tile<Shape<M, N, K, STAGES, WARPS_M, WARPS_N>, true, false>>(p); }

KERNEL(backward_input_elements, Product, 128) { backward_input<64, 64, 32, 1, 2, 2>(p); }
KERNEL(backward_input_64x64x64, Product, 128) { backward_input<64, 64, 64, 4, 2, 2>(p); }
KERNEL(backward_input_64x128x64, Product, 128) { backward_input<64, 128, 64, 4, 2, 2>(p); }
KERNEL(backward_input_128x128x64, Product, 128) { backward_input<128, 128, 64, 3, 2, 2>(p); }
KERNEL(backward_input_128x256x64, Product, 256) { backward_input<128, 256, 64, 3, 2, 4>(p); }
