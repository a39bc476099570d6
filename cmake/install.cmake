# What goes where: headers keep their folders under include/loam, so "base/base.h" means the same inside and outside the tree.
install(TARGETS loam_static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(LM_SHARED)
    install(TARGETS loam_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/loam FILES_MATCHING PATTERN "*.h" PATTERN "*_int.h" EXCLUDE PATTERN "internal.h" EXCLUDE PATTERN "cmd" EXCLUDE)
if(EXISTS ${CMAKE_SOURCE_DIR}/include/loam.h)
    install(FILES include/loam.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
if(TARGET loam)
    install(TARGETS loam RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    # Man page and completion are made from the program's own tables; a program that cannot print them yet installs without.
    install(CODE "execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/gen_man.sh ${CMAKE_BINARY_DIR}/loam ${CMAKE_BINARY_DIR}/man RESULT_VARIABLE rc)
        if(NOT rc EQUAL 0)
            message(WARNING \"no man page or completion: tools/gen_man.sh failed\")
        endif()")
    install(FILES ${CMAKE_BINARY_DIR}/man/loam.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
    install(FILES ${CMAKE_BINARY_DIR}/man/loam.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME loam OPTIONAL)
endif()

# relative, so that the installed tree can be moved and `cmake --install --prefix` needs no new configure
file(RELATIVE_PATH pc_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
list(JOIN LM_PC_REQUIRES " " pc_requires)
configure_file(cmake/loam.pc.in ${CMAKE_BINARY_DIR}/loam.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/loam.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

include(CMakePackageConfigHelpers)
configure_package_config_file(cmake/loamConfig.cmake.in ${CMAKE_BINARY_DIR}/loamConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/loam
    PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/loamConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/loamConfig.cmake ${CMAKE_BINARY_DIR}/loamConfigVersion.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/loam)
