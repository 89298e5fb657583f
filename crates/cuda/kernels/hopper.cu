// Products of whole matrices on Hopper.

KERNEL(staged_forward_128x128, Hopper, 256) { staged<128, 128, 3, true, true>(p); }
KERNEL(staged_forward_128x192, Hopper, 256) { staged<128, 192, 5, true, true>(p); }
KERNEL(staged_forward_128x256, Hopper, 256) { staged<128, 256, 4, true, true>(p); }
KERNEL(staged_forward_192x192, Hopper, 384) { staged<192, 192, 4, true, true>(p); }

KERNEL(staged_backward_input_128x128, Hopper, 256) { staged<128, 128, 3, true, false>(p); }
KERNEL(staged_backward_input_128x192, Hopper, 256) { staged<128, 192, 5, true, false>(p); }
KERNEL(staged_backward_input_128x256, Hopper, 256) { staged<128, 256, 4, true, false>(p); }
KERNEL(staged_backward_input_192x192, Hopper, 384) { staged<192, 192, 4, true, false>(p); }

KERNEL(staged_backward_weight_128x128, Hopper, 256) { staged<128, 128, 3, false, false>(p); }
KERNEL(staged_backward_weight_128x192, Hopper, 256) { staged<128, 192, 5, false, false>(p); }
KERNEL(staged_backward_weight_128x256, Hopper, 256) { staged<128, 256, 4, false, false>(p); }
