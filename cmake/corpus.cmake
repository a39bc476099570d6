# The text that `loam quickstart` trains on when none is given: sources and pages, packed by a small program of the building machine.
file(GLOB_RECURSE corpus_text CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/*.md)
file(GLOB_RECURSE corpus_code CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*.h)
add_executable(loam_embed tools/embed.c)
set_target_properties(loam_embed PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${gen})
target_link_libraries(loam_embed PRIVATE loam_deps)
add_custom_command(OUTPUT ${gen}/corpus.zst COMMAND loam_embed ${CMAKE_SOURCE_DIR} ${gen}/corpus.zst DEPENDS loam_embed ${corpus_text} ${corpus_code} ${all_c})
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/cmd/cmd_corpus.c PROPERTIES OBJECT_DEPENDS ${gen}/corpus.zst COMPILE_DEFINITIONS "LM_CORPUS=\"${gen}/corpus.zst\"")
