package demo

type person struct{ id, name, zone string }

var people = []person{
	{"olivia.marsh", "Olivia Marsh", "Europe/London"},
	{"amara.okafor", "Amara Okafor", "Europe/London"},
	{"jonas.weber", "Jonas Weber", "Europe/Berlin"},
	{"lucia.ferrari", "Lucía Ferrari", "Europe/Madrid"},
	{"noah.bennett", "Noah Bennett", "America/New_York"},
	{"grace.kim", "Grace Kim", "America/Los_Angeles"},
	{"mateo.silva", "Mateo Silva", "America/Sao_Paulo"},
	{"priya.nair", "Priya Nair", "Asia/Kolkata"},
	{"kenji.mori", "Kenji Mori", "Asia/Tokyo"},
	{"hannah.olsen", "Hannah Olsen", "Europe/Oslo"},
	{"david.cohen", "David Cohen", "America/Chicago"},
	{"mei.tan", "Mei Tan", "Asia/Singapore"},
}

type regionOf struct {
	name           string
	success, sales []string
}

var regions = []regionOf{
	{"EMEA", []string{"amara.okafor", "jonas.weber", "lucia.ferrari"}, []string{"hannah.olsen"}},
	{"Americas", []string{"noah.bennett", "grace.kim", "mateo.silva"}, []string{"david.cohen"}},
	{"APAC", []string{"priya.nair", "kenji.mori"}, []string{"mei.tan"}},
}

var industries = []string{"software", "manufacturing", "retail", "healthcare", "logistics", "finance", "education", "energy"}

var accountNames = []string{
	"Alder & Finch", "Aurora Freight", "Bayside Clinics", "Birchwood Foods", "Blue Harbor Insurance", "Brightline Rail",
	"Cartwright Steel", "Cedar Point Schools", "Clearwater Energy", "Cobalt Robotics", "Copperfield Bank", "Corvid Analytics",
	"Dovetail Furniture", "Eastgate Pharmacy", "Elmhurst University", "Evergreen Paper", "Fairmont Textiles", "Fernway Travel",
	"Foxglove Cosmetics", "Glasshouse Media", "Golden Acre Farms", "Granite Peak Mining", "Greywater Utilities", "Halcyon Hotels",
	"Harrow Instruments", "Hazel Street Books", "Helios Solar", "Highland Dairy", "Ironbridge Logistics", "Ivory Coast Trading",
	"Juniper Dental", "Kestrel Aviation", "Kingfisher Shipping", "Lakeshore Biotech", "Lantern Payments", "Larkspur Health",
	"Linden Software", "Maple Leaf Motors", "Meridian Labs", "Millstone Brewing", "Moorland Outdoor", "Nightingale Care",
	"Oakridge Credit Union", "Orchard Grocers", "Osprey Security", "Palisade Realty", "Pebble Toys", "Pinecrest Resorts",
	"Quarry Lane Builders", "Redwood Telecom", "Riverstone Legal", "Saffron Kitchens", "Silverbirch Tools", "Sparrow Couriers",
	"Stillwater Spas", "Thistle Optics", "Tidewater Marine", "Umber Ceramics", "Westfield Sports", "Yarrow Diagnostics",
}

var contacts = []string{
	"Maria Santos", "Tom Baxter", "Ingrid Dahl", "Samir Patel", "Chloe Martin", "Victor Hugo Lima", "Ada Nwosu", "Peter Novak",
	"Rin Sato", "Helen Drake", "Omar Haddad", "Zoë Laurent",
}

type kindOf struct {
	source, role string
	titles       []string // a space at the end asks for a contact's name
}

var kinds = []kindOf{
	{"success_play", "success_manager", []string{
		"Onboarding: schedule the kick-off", "Onboarding: confirm single sign-on works", "Adoption: log-ins fell by a third, find out why",
		"Adoption: show the new dashboards to ", "Renewal: 90 days to go, check the health score", "Renewal: agree on next year's goals with ",
		"Quarterly review: prepare the deck", "Quarterly review: send the minutes to ", "Health dropped to poor: call ",
	}},
	{"success_play", "success_manager", []string{
		"Champion left: meet the new one, ", "First value: no project after 14 days", "Survey answered 6 of 10: thank and ask ",
	}},
	{"success_play", "sales_manager", []string{"Expansion: 85% of the seats are used, offer more", "Renewal: send the quote to "}},
	{"integration", "success_manager", []string{
		"Support: escalated ticket waits for an answer", "Support: three open bugs, send a summary to ", "Billing: invoice overdue by 14 days",
	}},
	{"integration", "sales_manager", []string{"CRM: contract ends this quarter", "Marketing: asked for a price, call "}},
	{"manual", "success_manager", []string{
		"Call back ", "Ask for a reference quote", "Share the security questionnaire with ", "Plan the workshop on site",
	}},
	{"manual", "sales_manager", []string{"Lunch with ", "Check the discount with finance"}},
}
