# Instruction sets by file name. Plain files are compiled for the base machine.
#   name_simd.c        three times: avx512, avx2, portable (-DLM_ISA=…)
#   name_avx2.c, name_avx512.c, name_avx512bf16.c, name_vnni.c, name_amx.c    once, with that set
# -ffp-contract=off everywhere: which of two products joins a sum would be each compiler's choice, so kernels name their FMAs (vn_fma). Never
# -ffast-math, so NaN and infinity keep their meaning.
# -O3, and -g1 (lines and functions, no variables: where everything is unrolled, those are 40 % of the compiler's time), only where the build is
# an optimized one; sanitizers and debug keep their own levels.
set(kernel_flags -ffp-contract=off -fno-math-errno -fno-trapping-math)
if(CMAKE_BUILD_TYPE STREQUAL RelWithDebInfo AND NOT LM_SANITIZE)
    list(PREPEND kernel_flags -O3 -g1)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(isa_avx2 -mavx2 -mfma -mf16c)
    set(isa_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd ${isa_avx2} -mprefer-vector-width=512)
    set(isa_avx512bf16 ${isa_avx512} -mavx512bf16)
    set(isa_vnni ${isa_avx512} -mavx512vnni)
    set(isa_amx ${isa_avx512} -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8)
endif()

# Takes the name of a list of sources: *_simd.c move to simd_c in the caller, the others get their flags.
macro(loam_split_isa sources)
    set(simd_c ${${sources}})
    list(FILTER simd_c INCLUDE REGEX "_simd\\.c$")
    list(FILTER ${sources} EXCLUDE REGEX "_simd\\.c$")
    foreach(f ${${sources}})
        if(f MATCHES "_(avx2|avx512|avx512bf16|vnni|amx)\\.c$")
            set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "${kernel_flags};${isa_${CMAKE_MATCH_1}}")
        else()
            set_source_files_properties(${f} PROPERTIES COMPILE_OPTIONS "-ffp-contract=off")
        endif()
    endforeach()
    # Parsers are what is fuzzed: kernels under clang's sanitizers take minutes to compile and none of their time here.
    if(LM_FUZZ)
        set_property(SOURCE ${simd_c} APPEND PROPERTY COMPILE_OPTIONS "-fno-sanitize=all;-g0")
        foreach(f ${${sources}})
            if(f MATCHES "_(avx2|avx512|avx512bf16|vnni|amx)\\.c$")
                set_property(SOURCE ${f} APPEND PROPERTY COMPILE_OPTIONS "-fno-sanitize=all;-g0")
            endif()
        endforeach()
    endif()
endmacro()

# Compile the given sources once per instruction set and append the objects to the list named `out`.
function(loam_add_simd out)
    if(NOT ARGN)
        return()
    endif()
    set(all ${${out}})
    foreach(isa avx512 avx2 portable)
        add_library(loam_simd_${isa} OBJECT ${ARGN})
        target_link_libraries(loam_simd_${isa} PUBLIC loam_flags)
        target_compile_definitions(loam_simd_${isa} PRIVATE LM_ISA=${isa} LM_ISA_IS_${isa})
        target_compile_options(loam_simd_${isa} PRIVATE ${kernel_flags} ${isa_${isa}})
        # The intrinsics are 46 000 lines, a quarter of a second a file. A compiler cache does better without.
        if(isa_${isa} AND NOT CMAKE_C_COMPILER_LAUNCHER AND NOT LM_FUZZ)
            target_precompile_headers(loam_simd_${isa} PRIVATE <immintrin.h>)
        endif()
        list(APPEND all $<TARGET_OBJECTS:loam_simd_${isa}>)
    endforeach()
    set(${out} ${all} PARENT_SCOPE)
endfunction()
