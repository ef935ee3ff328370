// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

struct conmon;

/* Starts the OCI runtime's create, restore or exec. The runtime dies with conmon. */
int runtime_spawn(struct conmon *conmon, struct error *err);
