package probe

// The objects and the Go declarations of the structures in bpf/evidence.h. Regenerating needs clang-19 and
// llvm-19; building and testing does not. tools/checkgenerate reads these lines to prove that the objects
// match their source.

//go:generate -command compile go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -cflags "-std=gnu11 -O2 -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Werror -nostdinc"
//go:generate compile -type descriptor -type io -type thread -type wait_set -type saved_call -type count_control -type losses -type count_globals -type count_state -type registration_key -type registration -type attribution -type destination_key -type destination -type deliverer -type set_kind -type timeout_class -type result_class -type limit syscall ../../bpf/syscall.bpf.c
//go:generate compile -type mark -type side -type watch_control -type watch_globals -type reset -type reset_totals socket ../../bpf/socket.bpf.c
//go:generate compile -type pass_control -type file_record -type registration_record -type task_record -type record_type -type file_kind files ../../bpf/task_file.bpf.c
//go:generate compile -type clock_control -type clock_globals sample ../../bpf/sample.bpf.c
//go:generate compile -type traffic_control -type traffic_totals -type traffic_globals -type traffic_record traffic ../../bpf/traffic.bpf.c
