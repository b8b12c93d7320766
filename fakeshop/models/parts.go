package models

func of(option string, values ...string) []parts { return []parts{{option, values}} }

var keyboard = Model{
	Name: "keyboard",
	Options: []Option{
		{"switches", true, []Value{{"linear", 0}, {"tactile", 500}, {"clicky", 300}, {"silent", 900}, {"low-profile", 700}, {"magnetic", 2500}}},
		{"keycaps", true, []Value{{"abs", 0}, {"pbt", 1900}, {"low-profile", 1500}, {"shine-through", 1200}}},
		{"layout", true, []Value{{"iso", 0}, {"ansi", 0}, {"ortho", 1200}, {"split", 3500}}},
		{"case", false, []Value{{"tray", 0}, {"gasket", 3900}, {"grid", 2600}, {"slim", 2200}, {"halves", 4500}}},
		{"pcb", false, []Value{{"soldered", 0}, {"hot-swap", 1500}, {"hot-swap-rgb", 2900}, {"slim-hot-swap", 1900}, {"split-hot-swap", 3900}, {"magnetic", 4900}}},
		{"plate", false, []Value{{"steel", 0}, {"aluminium", 900}, {"fr4", 700}, {"polycarbonate", 600}, {"slim-steel", 500}}},
		{"stabilisers", false, []Value{{"clip-in", 0}, {"screw-in", 900}, {"none", 0}}},
		{"cable", false, []Value{{"usb-c", 0}, {"coiled", 2500}, {"wireless", 1900}}},
		{"firmware", false, []Value{{"factory", 0}, {"via", 500}, {"zmk", 900}, {"rapid-trigger", 1500}}},
	},
	rules: []rule{
		// layout, case and board
		{"the ortho layout needs the grid case", of("layout", "ortho"), of("case", "grid")},
		{"the grid case is for the ortho layout", of("case", "grid"), of("layout", "ortho")},
		{"the split layout needs a case in halves", of("layout", "split"), of("case", "halves")},
		{"a case in halves is for the split layout", of("case", "halves"), of("layout", "split")},
		{"the split layout needs a split board", of("layout", "split"), of("pcb", "split-hot-swap")},
		{"a split board is for the split layout", of("pcb", "split-hot-swap"), of("layout", "split")},
		{"boards with lights or magnets come in iso and ansi only", of("pcb", "hot-swap-rgb", "magnetic"), of("layout", "iso", "ansi")},
		{"a gasket case needs a plate that bends, which steel does not", of("case", "gasket"), of("plate", "aluminium", "fr4", "polycarbonate")},
		// stabilisers
		{"the ortho layout has no key long enough for stabilisers", of("layout", "ortho"), of("stabilisers", "none")},
		{"long keys need stabilisers", of("layout", "iso", "ansi", "split"), of("stabilisers", "clip-in", "screw-in")},
		{"slim and magnetic boards have no holes for screw-in stabilisers", of("pcb", "slim-hot-swap", "magnetic"), of("stabilisers", "clip-in", "none")},
		// kinds of switches
		{"low-profile switches need a slim board", of("switches", "low-profile"), of("pcb", "slim-hot-swap")},
		{"a slim board takes low-profile switches only", of("pcb", "slim-hot-swap"), of("switches", "low-profile")},
		{"low-profile switches need a slim plate", of("switches", "low-profile"), of("plate", "slim-steel")},
		{"a slim plate takes low-profile switches only", of("plate", "slim-steel"), of("switches", "low-profile")},
		{"low-profile switches need the slim case", of("switches", "low-profile"), of("case", "slim")},
		{"the slim case takes low-profile switches only", of("case", "slim"), of("switches", "low-profile")},
		{"low-profile switches need low-profile keycaps", of("switches", "low-profile"), of("keycaps", "low-profile")},
		{"low-profile keycaps need low-profile switches", of("keycaps", "low-profile"), of("switches", "low-profile")},
		{"magnetic switches need a magnetic board", of("switches", "magnetic"), of("pcb", "magnetic")},
		{"a magnetic board takes magnetic switches only", of("pcb", "magnetic"), of("switches", "magnetic")},
		// lights and firmware
		{"shine-through keycaps need a board with lights", of("keycaps", "shine-through"), of("pcb", "hot-swap-rgb")},
		{"a board with lights runs the factory's firmware or via", of("pcb", "hot-swap-rgb"), of("firmware", "factory", "via")},
		{"a magnetic board needs rapid-trigger firmware", of("pcb", "magnetic"), of("firmware", "rapid-trigger")},
		{"rapid-trigger firmware needs a magnetic board", of("firmware", "rapid-trigger"), of("pcb", "magnetic")},
		{"a wireless keyboard needs zmk", of("cable", "wireless"), of("firmware", "zmk")},
		{"zmk is for wireless keyboards", of("firmware", "zmk"), of("cable", "wireless")},
		{"a soldered board has no place for a battery", of("pcb", "soldered"), of("cable", "usb-c", "coiled")},
	},
}

var console = Model{
	Name: "console",
	Options: []Option{
		{"shell", true, []Value{{"grey", 0}, {"clear", 1500}}},
		{"video", true, []Value{{"composite", 0}, {"rgb", 2500}, {"hdmi", 6900}}},
		{"region", false, []Value{{"pal", 0}, {"ntsc-u", 0}, {"ntsc-j", 500}}},
		{"board", false, []Value{{"rev-a", 0}, {"rev-b", 800}, {"rev-c", 1900}}},
		{"supply", false, []Value{{"230v", 0}, {"120v", 0}, {"100v", 0}, {"usb-c", 2900}}},
		{"drive", false, []Value{{"disc", 0}, {"card", 8900}}},
		{"region-lock", false, []Value{{"kept", 0}, {"switch", 1900}, {"automatic", 3500}}},
		{"clock", false, []Value{{"stock", 0}, {"faster", 2500}}},
	},
	rules: []rule{
		{"revision a does not bring out the digital video that hdmi needs", of("video", "hdmi"), of("board", "rev-b", "rev-c")},
		{"revision c has lost the lines for rgb", of("video", "rgb"), of("board", "rev-a", "rev-b")},
		{"a pal console has a 230 V supply, or a new one by usb-c", of("region", "pal"), of("supply", "230v", "usb-c")},
		{"an American console has a 120 V supply, or a new one by usb-c", of("region", "ntsc-u"), of("supply", "120v", "usb-c")},
		{"a Japanese console has a 100 V supply, or a new one by usb-c", of("region", "ntsc-j"), of("supply", "100v", "usb-c")},
		{"usb-c feeds the lower voltages of revisions b and c only", of("supply", "usb-c"), of("board", "rev-b", "rev-c")},
		{"revision a's drive is not on a connector", of("drive", "card"), of("board", "rev-b", "rev-c")},
		{"a card drive knows no regions, so nothing is to be unlocked", of("drive", "card"), of("region-lock", "kept")},
		{"the hole for a region switch cracks a clear shell", of("region-lock", "switch"), of("shell", "grey")},
		{"revision c's lock cannot be told the region automatically", of("region-lock", "automatic"), of("board", "rev-a", "rev-b")},
		{"a faster clock upsets hdmi's timing", of("clock", "faster"), of("video", "composite", "rgb")},
		{"a faster clock loses the colour of pal", of("clock", "faster"), of("region", "ntsc-u", "ntsc-j")},
	},
}

var handheld = Model{
	Name: "handheld",
	Options: []Option{
		{"screen", true, []Value{{"original", 0}, {"ips", 4500}, {"oled", 9900}}},
		{"battery", true, []Value{{"cells", 0}, {"rechargeable", 2200}}},
		{"shell", false, []Value{{"standard", 0}, {"roomy", 1200}, {"metal", 4900}}},
		{"lens", false, []Value{{"plastic", 0}, {"glass", 900}}},
		{"board", false, []Value{{"32-pin", 0}, {"40-pin", 600}}},
		{"charger", false, []Value{{"none", 0}, {"usb-c", 1200}}},
		{"speaker", false, []Value{{"standard", 0}, {"loud", 800}}},
	},
	rules: []rule{
		{"ips and oled screens are driven by 40-pin boards", of("screen", "ips", "oled"), of("board", "40-pin")},
		{"ips and oled screens are larger than the standard shell's window", of("screen", "ips", "oled"), of("shell", "roomy", "metal")},
		{"an oled screen must lie behind glass", of("screen", "oled"), of("lens", "glass")},
		{"an oled screen draws more than cells give", of("screen", "oled"), of("battery", "rechargeable")},
		{"a rechargeable battery needs a charger", of("battery", "rechargeable"), of("charger", "usb-c")},
		{"cells must not be charged", of("battery", "cells"), of("charger", "none")},
		{"a metal shell has no room for the loud speaker", of("shell", "metal"), of("speaker", "standard")},
	},
}
