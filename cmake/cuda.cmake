# CUDA kernels: plain nvcc custom commands, so that a machine without the toolkit configures the same project. The runtime is linked
# statically: the program starts on machines without a GPU and finds libcuda.so only when a device is asked for.
find_program(NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin REQUIRED)
get_filename_component(cuda_root ${NVCC} REALPATH)
get_filename_component(cuda_root ${cuda_root}/../.. ABSOLUTE)
find_library(CUDART_STATIC NAMES libcudart_static.a HINTS ${cuda_root}/lib64 ${cuda_root}/lib ${cuda_root}/targets/x86_64-linux/lib REQUIRED)
set(nvcc_flags -std=c++17 -O3 -lineinfo -arch=sm_${LM_CUDA_ARCH} --fmad=true -Xcompiler -fPIC,-Wall,-fno-exceptions,-fno-threadsafe-statics -I${CMAKE_SOURCE_DIR}/src -I${gen}
    -DLM_CUDA "-DLM_VERSION=\"${PROJECT_VERSION}\"" -D_GNU_SOURCE)
if(LM_WERROR)
    list(APPEND nvcc_flags -Werror all-warnings)
endif()
foreach(f ${all_cu})
    file(RELATIVE_PATH rel ${CMAKE_SOURCE_DIR}/src ${f})
    set(o ${CMAKE_BINARY_DIR}/cuda/${rel}.o)
    get_filename_component(dir ${o} DIRECTORY)
    file(MAKE_DIRECTORY ${dir})
    add_custom_command(OUTPUT ${o} COMMAND ${NVCC} ${nvcc_flags} -MD -MF ${o}.d -c ${f} -o ${o}
        DEPENDS ${f} DEPFILE ${o}.d COMMENT "nvcc ${rel}" VERBATIM)
    list(APPEND cuda_objects ${o})
endforeach()
set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
list(APPEND objects ${cuda_objects})
target_link_libraries(loam_flags INTERFACE ${CUDART_STATIC} rt)
